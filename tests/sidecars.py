"""The sidecars of a small chain of data versions, made by hand."""


def sidecar(version, parent, rows, aside=0, joined=None, columns=("year",)):
    "What a step writes beside a version of `rows` rows; `parent` is the sidecar of the version before."
    n = sum(map(ord, version))
    return dict(
        version=version,
        parent=parent and parent["version"],
        parent_rows=parent and parent["rows"],
        parent_sha256=parent and parent["sha256"],
        rows=rows,
        rows_set_aside=aside,
        rows_joined=joined,
        set_aside={"rare DRG": aside} if aside else {},
        bytes=1_000_000,
        sha256=f"{n:064x}",
        columns={c: {} for c in columns},
        config=dict(step=f"step_{n}", parameters=dict(most=5))
        if parent
        else dict(name="toy", title="Toy source", synthetic=True, note="no severities"),
    )


def toy_sidecars():
    "Four versions whose rows add up: v5 sets 100 aside, v6 joins 900 to 300."
    v0 = sidecar("v0", None, 1000, columns=("Year",))
    v1 = sidecar("v1", v0, 1000)
    v5 = sidecar("v5", v1, 900, 100)
    return dict(v0=v0, v1=v1, v5=v5, v6=sidecar("v6", v5, 300, joined=900, columns=("year", "w_mean_cost")))

#!/usr/bin/env python3
"""Oracle values for the load generator's statistics: numpy's percentiles, scipy's distributions.

    python3 make_serving_golden.py > serving.json     (needs numpy and scipy)
"""
import json

import numpy as np
from scipy import stats

rng = np.random.default_rng(20261122)


def percentiles():
    cases = {
        "one": [3.5],
        "two": [1.0, 2.0],
        "ties": [5.0] * 7 + [6.0] * 3,
        "uniform": rng.uniform(0, 100, 501).round(4).tolist(),
        "lognormal": rng.lognormal(3, 1.2, 1000).round(4).tolist(),
        "pareto": (rng.pareto(1.3, 777) * 10).round(4).tolist(),
    }
    points = [0, 1, 25, 50, 75, 90, 95, 99, 99.9, 100]
    return [
        {"name": name, "values": v, "at": points, "expected": np.percentile(v, points).tolist(),
         "mean": float(np.mean(v)), "sd": float(np.std(v))}
        for name, v in cases.items()
    ]


def continuous():
    """x and the cumulative probability there, for Kolmogorov-Smirnov."""
    cases = [("exponential", 1.0, stats.expon())]
    cases += [("gamma", k, stats.gamma(k)) for k in (0.25, 0.5, 1.0, 2.0, 7.5)]
    cases += [("normal", 0.0, stats.norm())]
    q = np.linspace(0.005, 0.995, 199)
    return [{"name": n, "shape": k, "x": d.ppf(q).tolist(), "cdf": q.tolist()} for n, k, d in cases]


def lengths():
    """Probability of each length (or of a class of lengths), for chi-square."""
    out = []
    x = np.arange(10, 31)
    out.append({"text": "uniform:10,30", "edges": x.tolist(), "p": [1 / 21] * 21})
    z = np.arange(1, 201)
    p = z ** -1.1
    p = p / p.sum()
    edges = [1, 2, 3, 4, 5, 7, 10, 15, 22, 33, 50, 75, 110, 160]
    out.append({"text": "zipf:1.1,5,204", "edges": [e + 4 for e in edges],
                "p": [float(p[a - 1:b - 1].sum()) for a, b in zip(edges, edges[1:] + [201])]})
    # Rounded: a length n stands for [n - 0.5, n + 0.5).
    edges = [1, 70, 80, 90, 95, 100, 105, 110, 120, 130]
    cuts = [-np.inf] + [e - 0.5 for e in edges[1:]] + [np.inf]
    d = stats.norm(100, 20)
    out.append({"text": "normal:100,20", "edges": edges, "p": np.diff(d.cdf(cuts)).tolist()})
    variance = np.log1p((150 / 300) ** 2)
    d = stats.lognorm(s=np.sqrt(variance), scale=np.exp(np.log(300) - variance / 2))
    edges = [1, 100, 150, 200, 250, 300, 350, 400, 500, 700, 900]
    cuts = [0] + [e - 0.5 for e in edges[1:]] + [np.inf]
    out.append({"text": "lognormal:300,150", "edges": edges, "p": np.diff(d.cdf(cuts)).tolist()})
    for case in out:
        # The value that chance passes once in 10,000 runs; the seeds are fixed, so never by luck.
        case["limit"] = float(stats.chi2.ppf(1 - 1e-4, len(case["p"]) - 1))
        assert abs(sum(case["p"]) - 1) < 1e-9, case["text"]
    return out


print(json.dumps({"percentiles": percentiles(), "continuous": continuous(), "lengths": lengths()}))

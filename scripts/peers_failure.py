#!/usr/bin/env python3
"""LightGBM and XGBoost on the very splits of `foreshift eval failure`, for comparison.

    python3 scripts/peers_failure.py DATA_DIR     # holds cmapss/ and backblaze/

Features are those that the published baselines were measured with: z-scores within the flight
regime, exponentially weighted means of 10 and 40, their difference, the deviation over 20 (C-MAPSS);
attributes, their changes over one and seven days, age and model (Backblaze). `--same` adds the two
groups of features that foreshift has beyond these (wear since the first cycles, age).
Both peers stop early on the validation units and see no test row.
"""
import gzip
import os
import sys

import numpy as np


def read(path):
    for name in (path, path + ".gz"):
        if os.path.exists(name):
            return (gzip.open if name.endswith(".gz") else open)(name, "rt")
    return None


def average_precision(score, truth):
    order = np.argsort(-score, kind="stable")
    truth = truth[order]
    hits = np.cumsum(truth)
    return float((hits / np.arange(1, len(truth) + 1))[truth == 1].mean())


def fit_and_score(train, valid, tests):
    import lightgbm as lgb
    import xgboost as xgb

    out = {}
    model = lgb.LGBMClassifier(n_estimators=600, learning_rate=0.05, num_leaves=31, n_jobs=1, verbose=-1)
    model.fit(*train, eval_set=[valid], callbacks=[lgb.early_stopping(50, verbose=False)])
    out["LightGBM"] = [average_precision(model.predict(x, raw_score=True), y) for x, y in tests]
    model = xgb.XGBClassifier(
        n_estimators=600, learning_rate=0.05, max_depth=6, n_jobs=1, early_stopping_rounds=50, eval_metric="logloss"
    )
    model.fit(*train, eval_set=[valid], verbose=False)
    out["XGBoost"] = [average_precision(model.predict(x, output_margin=True), y) for x, y in tests]
    return out


def weighted(x, span):
    fade, out = 1 - 2 / (span + 1), np.empty_like(x)
    total, weight = np.zeros(x.shape[1]), 0.0
    for t in range(len(x)):
        total, weight = total * fade + x[t], weight * fade + 1
        out[t] = total / weight
    return out


def cmapss(folder, name, same):
    train = np.loadtxt(read(f"{folder}/train_{name}.txt"))
    test = np.loadtxt(read(f"{folder}/test_{name}.txt"))
    left = np.loadtxt(read(f"{folder}/RUL_{name}.txt"))
    count = len(np.unique(train[:, 0]))
    first, second = int(count * 0.6 + 0.5), int(count * 0.6 + 0.5) + int(count * 0.15 + 0.5)
    test[:, 0] += 10_000
    rows = np.vstack([train, test])
    scaled = rows[:, 2:5] / [42.0, 0.84, 40.0]
    centres, regime = [], np.zeros(len(rows), int)
    for i, s in enumerate(scaled):
        distances = [np.linalg.norm(s - c) for c in centres]
        if not distances or min(distances) > 0.1:
            centres.append(s)
            regime[i] = len(centres) - 1
        else:
            regime[i] = int(np.argmin(distances))
    seen = rows[:, 0] <= first
    z = np.zeros_like(rows[:, 5:])
    for r in range(len(centres)):
        own = seen & (regime == r)
        mean, deviation = rows[own, 5:].mean(0), rows[own, 5:].std(0)
        deviation = np.where(deviation < 1e-5 * (1 + abs(mean)), np.inf, deviation)
        z[regime == r] = (rows[regime == r, 5:] - mean) / deviation
    z = z.clip(-10, 10)[:, :]
    features, labels, units = [], [], []
    for unit in np.unique(rows[:, 0]):
        x = z[rows[:, 0] == unit]
        short, long, n = weighted(x, 10), weighted(x, 40), len(x)
        deviation = np.array([x[max(0, t - 19) : t + 1].std(0) for t in range(n)])
        parts = [x, short, long, short - long, deviation]
        if same:
            parts.append(short - np.array([x[: min(t + 1, 20)].mean(0) for t in range(n)]))
            parts.append(np.arange(n)[:, None] / 100)
        features.append(np.hstack(parts))
        rest = n - 1 - np.arange(n) + (left[int(unit) - 10_001] if unit > 10_000 else 0)
        labels.append((rest <= 30).astype(int))
        units.append(np.full(n, unit))
    x, y, unit = np.vstack(features).astype("f4"), np.concatenate(labels), np.concatenate(units)
    pick = lambda low, high: (x[(unit > low) & (unit <= high)], y[(unit > low) & (unit <= high)])
    return pick(0, first), pick(first, second), [pick(second, count), pick(10_000, 1e9)]


def backblaze(folder, horizon=7):
    import csv
    import datetime

    drives = {}
    for row in csv.DictReader(read(f"{folder}/drives.csv")):
        day = datetime.date.fromisoformat(row["date"]).toordinal()
        number = lambda k: float(row[k]) if row[k] else np.nan
        values = [number(f"smart_{k}_raw") for k in (1, 5, 9, 194, 197)]
        drives.setdefault(row["serial_number"], []).append((day, values, row["failure"] == "1", row["model"]))
    models = {m: i for i, m in enumerate(sorted({d[0][3] for d in drives.values()}))}
    begin = min(d[0][0] for d in drives.values())
    features, labels, days = [], [], []
    for history in drives.values():
        history.sort(key=lambda h: h[0])
        failed = next((h[0] for h in history if h[2]), None)
        for i, (day, values, _, model) in enumerate(history):
            if failed is not None and day >= failed:
                continue
            now = np.array(values)
            back = lambda k: np.array(next((h[1] for h in reversed(history[: i + 1]) if h[0] <= day - k), [np.nan] * 5))
            features.append(np.concatenate([now, now - back(1), now - back(7), [models[model]]]))
            labels.append(int(failed is not None and failed - day <= horizon))
            days.append(day - begin)
    x, y, days = np.array(features, "f4"), np.array(labels), np.array(days)
    last = days.max()
    test = (last - 2 * horizon + 1, last - horizon)
    valid = (test[0] - 2 * horizon, test[0] - horizon - 1)
    pick = lambda low, high: (x[(days >= low) & (days <= high)], y[(days >= low) & (days <= high)])
    return pick(-1, valid[0] - 1), pick(*valid), [pick(*test)]


def main():
    data = next((a for a in sys.argv[1:] if not a.startswith("-")), "../shared/data")
    same = "--same" in sys.argv
    for name in ("FD001", "FD002", "FD003", "FD004"):
        if read(f"{data}/cmapss/train_{name}.txt"):
            train, valid, tests = cmapss(f"{data}/cmapss", name, same)
            for peer, (first, second) in fit_and_score(train, valid, tests).items():
                print(f"{name} {peer}: held-out units {first:.4f}, test_* {second:.4f}", flush=True)
    if read(f"{data}/backblaze/drives.csv"):
        train, valid, tests = backblaze(f"{data}/backblaze")
        for peer, (first,) in fit_and_score(train, valid, tests).items():
            print(f"Backblaze {peer}: {first:.4f} (base {tests[0][1].mean():.4f})", flush=True)


if __name__ == "__main__":
    main()

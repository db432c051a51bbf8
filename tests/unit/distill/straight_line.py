"""The loss of every method, written out step by step on plain lists: what the library must give.

Shares no code with the library and uses neither torch nor numpy. Indices: t step, b sample, c class, k exit, d channel,
i and j positions of a map. Each function takes a batch (name -> nested lists) and the method's parameters, and returns the
weighted terms.
"""

from functools import partial
from math import exp, log, sqrt

together = partial(zip, strict=True)


def softmax(row, tau=1.0):
    powers = [exp((value - max(row)) / tau) for value in row]
    return [power / sum(powers) for power in powers]


def cross_entropy(rows, labels):
    return sum(-log(softmax(row)[label]) for row, label in together(rows, labels)) / len(labels)


def divergence(q, p):
    return sum(q_c * log(q_c / p_c) for q_c, p_c in together(q, p))


def distil(learner, target, tau):
    """tau^2 * mean over samples of KL(S(target / tau) || S(learner / tau)), of rows [B][C]."""
    return tau**2 * sum(divergence(softmax(v, tau), softmax(u, tau)) for u, v in together(learner, target)) / len(learner)


def winner(row):
    return row.index(max(row))


def mean_rows(rows):
    return [sum(column) / len(rows) for column in together(*rows)]


def mean_over_time(logits):
    return [mean_rows([step[b] for step in logits]) for b in range(len(logits[0]))]


def per_step(logits, function):
    return sum(function(step) for step in logits) / len(logits)


def ce(batch, params):
    return {"ce": cross_entropy(mean_over_time(batch["logits"]), batch["labels"])}


def tet(batch, params):
    return {"ce": per_step(batch["logits"], lambda step: cross_entropy(step, batch["labels"]))}


def kd(batch, params):
    teacher, tau = batch["teacher_logits"], params["temperature"]
    if params["logits"] == "mean":
        return {**ce(batch, params), "kd": params["alpha"] * distil(mean_over_time(batch["logits"]), teacher, tau)}
    return {**tet(batch, params), "kd": params["alpha"] * per_step(batch["logits"], lambda step: distil(step, teacher, tau))}


def mean_of_the_right(rows, label):
    right = [row for row in rows if winner(row) == label]
    return mean_rows(right) if right else [0.0] * len(rows[0])


def tdd(batch, params):
    logits, labels, tau = batch["logits"], batch["labels"], params["temperature"]
    if params["self_target"] == "ensemble":
        target = mean_over_time(logits)
    else:
        target = [mean_of_the_right([step[b] for step in logits], label) for b, label in enumerate(labels)]
    return {
        **tet(batch, params),
        "kd": params["alpha"] * per_step(logits, lambda step: distil(step, batch["teacher_logits"], tau)),
        "self": params["beta"] * per_step(logits, lambda step: distil(step, target, tau)),
    }


def equalised(step, teacher, labels):
    students, teachers = [], []
    for z, a, y in together(step, teacher, labels):
        p, z, a = winner(z), list(z), list(a)
        if p != y:
            z[p] = z[y]
            a[y] = a[p] = min(a[y], a[p])
        students.append(z)
        teachers.append(a)
    return students, teachers


def confidence(row):
    entropy = -sum(p * log(p + 1e-8) for p in softmax(row))
    return (log(len(row)) - entropy) / log(len(row))


def cosine(u, v):
    return sum(x * y for x, y in together(u, v)) / sqrt(sum(x * x for x in u)) / sqrt(sum(y * y for y in v))


def aligned(logits, t, b):
    others = [step[b] for s, step in enumerate(logits) if s != t]
    weights = softmax([confidence(other) * cosine(logits[t][b], other) for other in others])
    return [sum(weight * value for weight, value in together(weights, column)) for column in together(*others)]


def sealkd(batch, params):
    logits, labels, tau = batch["logits"], batch["labels"], params["temperature"]
    ela = per_step(logits, lambda step: distil(*equalised(step, batch["teacher_logits"], labels), tau))
    targets = [[aligned(logits, t, b) for b in range(len(labels))] for t in range(len(logits))]
    sta = sum(distil(step, target, tau) for step, target in together(logits, targets)) / len(logits) if len(logits) > 1 else 0.0
    return {**tet(batch, params), "ela": params["alpha"] * ela, "sta": params["beta"] * sta}


def esd(batch, params):
    exits, labels, tau = batch["exits"], batch["labels"], params["temperature"]
    hard = [cross_entropy(rows, labels) for rows in exits]
    if params["variant"] == "cifar":
        hard = [params["alpha"] * value for value in hard]
    if params["variant"] == "imagenet":
        hard = [params["alpha"] * value for value in hard[:-1]] + hard[-1:]
    teachers = [mean_of_the_right([rows[b] for rows in exits], label) for b, label in enumerate(labels)]
    taught = [b for b, row in enumerate(teachers) if sum(abs(value) for value in row) > 1e-6]
    soft = 0.0
    for rows in exits:
        soft += distil([rows[b] for b in taught], [teachers[b] for b in taught], tau)
    return {"ce": sum(hard), "self": params["beta"] * soft}


def scaled(rows, low, high):
    return [[(value - low) / (high - low + 1e-3) for value in row] for row in rows]


def samd(batch, params):
    steps, one_map = batch["features"], batch["teacher_features"][0][0]
    positions = [(i, j) for i, row in enumerate(one_map) for j in range(len(row))]
    student, teacher = [], []
    for b, logits in enumerate(batch["teacher_logits"]):
        weight = batch["teacher_weight"][winner(logits)]
        maps = batch["teacher_features"][b]
        student.append([sum(maps_d[i][j] for step in steps for maps_d in step[b]) for i, j in positions])
        teacher.append([max(0.0, sum(w * maps_d[i][j] for w, maps_d in together(weight, maps))) for i, j in positions])
    tau = params["temperature"]
    if params["samd_variant"] == "paper":
        return distil(student, teacher, tau)
    if params["samd_variant"] == "per_sample":
        student, teacher = ([scaled([row], min(row), max(row))[0] for row in rows] for rows in (student, teacher))
        return distil(student, teacher, tau)
    student, teacher = (scaled(rows, min(map(min, rows)), max(map(max, rows))) for rows in (student, teacher))
    shifted = [[[p + 1e-10 for p in softmax(row, tau)] for row in rows] for rows in (student, teacher)]
    return sum(divergence(q, p) for p, q in together(*shifted)) / len(student)


def nld(batch, params):
    tau, weight, scale = params["temperature"], params["noise_weight"], params["noise_scale"]
    result = 0.0
    for z, a, noise in together(mean_over_time(batch["logits"]), batch["teacher_logits"], batch["noise"]):
        mean = sum(z) / len(z)
        std = sqrt(sum((value - mean) ** 2 for value in z) / (len(z) - 1))
        if params["nld_variant"] == "code":
            smooth = softmax([mean + n * std**2 for n in noise], tau)
            p = [weight * own + (1 - weight) * other for own, other in together(softmax(z, tau), smooth)]
        else:
            p = softmax([value + scale * (mean + n * std) for value, n in together(z, noise)], tau)
        result += tau**2 * divergence(softmax(a, tau), p)
    return result / len(batch["noise"])


def ckdsnn(batch, params):
    return {**ce(batch, params), "samd": params["beta"] * samd(batch, params), "nld": params["gamma"] * nld(batch, params)}


LOSSES = {"ce": ce, "tet": tet, "kd": kd, "tdd": tdd, "sealkd": sealkd, "esd": esd, "ckdsnn": ckdsnn}

"""The losses of the methods that compare feature maps through layers of their own, written out on plain lists.

As in straight_line.py; here also: d channel of the student, e channel of the teacher, i and j positions. `parts` are the weights
of the method's layers by their names.
"""

from math import ceil, exp, floor, log

from tests.unit.distill.straight_line import ce, cross_entropy, distil, mean_over_time, mean_rows, softmax, tet, together


def window(position, own, wanted):
    return range(floor(position * own / wanted), ceil((position + 1) * own / wanted))


def resized(channel, height, width):
    """One channel [h][w], each wanted position the mean of the positions that it covers."""
    result = [[0.0] * width for _ in range(height)]
    for i in range(height):
        for j in range(width):
            values = [channel[y][x] for y in window(i, len(channel), height) for x in window(j, len(channel[0]), width)]
            result[i][j] = sum(values) / len(values)
    return result


def regressed(maps, height, width, weight, bias):
    """[D][h][w] -> [E][height][width]: a 1x1 convolution of the resized channels."""
    channels = [resized(channel, height, width) for channel in maps]
    result = []
    for row, offset in together(weight, bias):
        factors = [factor[0][0] for factor in row]
        result.append(
            [
                [offset + sum(f * channel[i][j] for f, channel in together(factors, channels)) for j in range(width)]
                for i in range(height)
            ]
        )
    return result


def convolved(maps, weight, bias):
    """A 3x3 convolution that keeps the size; beyond the border is 0."""
    height, width = len(maps[0]), len(maps[0][0])
    result = []
    for kernels, offset in together(weight, bias):
        out = [[offset] * width for _ in range(height)]
        for kernel, channel in together(kernels, maps):
            for i in range(height):
                for j in range(width):
                    for y in (-1, 0, 1):
                        for x in (-1, 0, 1):
                            if 0 <= i + y < height and 0 <= j + x < width:
                                out[i][j] += kernel[y + 1][x + 1] * channel[i + y][j + x]
        result.append(out)
    return result


def squares(ours, theirs):
    """The squared distances of two maps [E][h][w], one for each entry."""
    pairs = [pair for own, its in together(ours, theirs) for rows in together(own, its) for pair in together(*rows)]
    return [(a - b) ** 2 for a, b in pairs]


def mean_map(steps, b):
    """[T][B][D][h][w] -> the mean over time of sample b, [D][h][w]."""
    return [[mean_rows(list(rows)) for rows in together(*channels)] for channels in together(*(step[b] for step in steps))]


def pairs_of(batch, which):
    """(student's maps, teacher's maps) of the compared stages: last with last, and so on backwards."""
    student, teacher = batch["stages"], batch["teacher_stages"]
    count = min(len(student), len(teacher))
    pairs = [(student[k - count], teacher[k - count]) for k in range(count)]
    return {"each": pairs, "last": pairs[-1:], "middle": pairs[count // 2 : count // 2 + 1]}[which]


def adapted(maps, target, parts, name):
    return regressed(maps, len(target[0]), len(target[0][0]), parts[f"{name}.align.weight"], parts[f"{name}.align.bias"])


def fitnet(batch, params):
    hint = 0.0
    for k, (steps, taught) in enumerate(pairs_of(batch, params["hint"])):
        found = []
        for step in steps:
            for maps, target in together(step, taught):
                found += squares(adapted(maps, target, batch["parts"], str(k)), target)
        hint += sum(found) / len(found)
    return {**tet(batch, params), "hint": params["beta"] * hint}


def kdsnn(batch, params):
    distance = 0.0
    for k, (steps, taught) in enumerate(pairs_of(batch, params["features"])):
        found = []
        for b, target in enumerate(taught):
            found += squares(adapted(mean_map(steps, b), target, batch["parts"], str(k)), target)
        distance += sum(found) / len(found)
    soft = distil(mean_over_time(batch["logits"]), batch["teacher_logits"], params["temperature"])
    return {
        "ce": (1 - params["alpha"]) * ce(batch, params)["ce"],
        "kd": params["alpha"] * soft,
        "features": params["beta"] * distance,
    }


def wsl(batch, tau):
    result = 0.0
    weighed = mean_over_time(batch.get("constant_logits", batch["logits"]))  # the weights are constants, without gradient
    rows = together(mean_over_time(batch["logits"]), weighed, batch["teacher_logits"], batch["labels"])
    for z, constant, a, y in rows:
        weight = 1 - exp(-cross_entropy([constant], [y]) / (cross_entropy([a], [y]) + 1e-7))
        result -= tau**2 * weight * sum(q * log(p) for q, p in together(softmax(a, tau), softmax(z, tau)))
    return result / len(batch["labels"])


def bkdsnn(batch, params):
    parts, blurred = batch["parts"], 0.0
    for b, target in enumerate(batch["teacher_stages"][-1]):
        maps = adapted(mean_map(batch["stages"][-1], b), target, parts, "align")
        for e, draw in enumerate(batch["uniform"][b]):
            if draw < params["blur"]:
                maps[e] = [[0.0] * len(row) for row in maps[e]]
        hidden = convolved(maps, parts["restore.layers.0.weight"], parts["restore.layers.0.bias"])
        hidden = [[[max(0.0, value) for value in row] for row in channel] for channel in hidden]
        blurred += sum(squares(convolved(hidden, parts["restore.layers.2.weight"], parts["restore.layers.2.bias"]), target))
    soft = wsl(batch, params["temperature"])
    return {
        **ce(batch, params),
        "wsl": params["alpha"] * soft,
        "bkd": params["beta"] * blurred / len(batch["labels"]),
    }


LOSSES = {"fitnet": fitnet, "bkdsnn": bkdsnn, "kdsnn": kdsnn}

# SPDX-License-Identifier: Apache-2.0
"""Makes a model that fails smaller while it fails the same way."""

import numpy as np
import onnx
from onnx import helper, numpy_helper


def copy_of(model):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def names_in_bodies(node):
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            for inner in attribute.g.node:
                yield from inner.input
                yield from names_in_bodies(inner)


def clean(model, feeds):
    """Without what no output needs: nodes, initializers, inputs."""
    graph = model.graph
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input) | set(names_in_bodies(node))
            kept.append(node)
    kept.reverse()
    nodes = [helper_copy(n) for n in kept]
    del graph.node[:]
    graph.node.extend(nodes)
    for field in (graph.initializer, graph.input):
        keep = [helper_copy(each) for each in field if each.name in needed]
        del field[:]
        field.extend(keep)
    return model, {name: array for name, array in feeds.items() if name in needed}


def helper_copy(message):
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def declared(name, array):
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def with_outputs(model, feeds, infos):
    copy = copy_of(model)
    del copy.graph.output[:]
    copy.graph.output.extend(infos)
    return clean(copy, feeds)


def intermediate_values(model, feeds, evaluate):
    """Arrays of all values that nodes make; empty where the evaluation fails."""
    names = [name for node in model.graph.node for name in node.output if name]
    probe = copy_of(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    outputs = evaluate(probe, feeds)
    return {} if outputs is None else {n: np.asarray(o) for n, o in zip(names, outputs)}


def candidates(model, feeds, values):
    """Smaller models, the boldest first."""
    graph = model.graph
    for output in graph.output:
        if len(graph.output) > 1:
            yield with_outputs(model, feeds, [output])
    for node in graph.node:  # an earlier end
        for name in node.output:
            if name in values and name not in {o.name for o in graph.output}:
                yield with_outputs(model, feeds, [declared(name, values[name])])
    for node in graph.node:  # a later beginning: what a node makes becomes an input or an initializer
        for name in node.output:
            if name in values and name not in {o.name for o in graph.output}:
                for constant in (False, True):
                    yield cut(model, feeds, name, values[name], constant)
    for node in range(len(graph.node)):  # a node less: its readers read its operand
        for operand in graph.node[node].input:
            if operand:
                yield bypass(model, feeds, node, operand)
    for info in graph.input:  # inputs become constants
        if info.name in feeds:
            yield cut(model, feeds, info.name, feeds[info.name], True)
    for node in range(len(graph.node)):
        for attribute in range(len(graph.node[node].attribute)):
            copy = copy_of(model)
            del copy.graph.node[node].attribute[attribute]
            yield clean(copy, feeds)


def cut(model, feeds, name, array, constant):
    copy = copy_of(model)
    for node in copy.graph.node:
        for i, output in enumerate(node.output):
            if output == name:
                node.output[i] = name + "_gone"
    keep = [helper_copy(i) for i in copy.graph.input if i.name != name]
    del copy.graph.input[:]
    copy.graph.input.extend(keep)
    feeds = {k: v for k, v in feeds.items() if k != name}
    if constant:
        copy.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
    else:
        copy.graph.input.append(declared(name, array))
        feeds[name] = array
    return clean(copy, feeds)


def bypass(model, feeds, index, operand):
    copy = copy_of(model)
    gone = set(copy.graph.node[index].output)
    del copy.graph.node[index]
    for node in copy.graph.node:
        for i, name in enumerate(node.input):
            if name in gone:
                node.input[i] = operand
    if gone & {o.name for o in copy.graph.output}:
        for output in copy.graph.output:
            output.type.tensor_type.ClearField("shape")
            if output.name in gone:
                output.name = operand
    return clean(copy, feeds)


def size_of(model, feeds):
    """What shrinking makes smaller: nodes first, then attributes, inputs and bytes."""
    graph = model.graph
    attributes = sum(len(node.attribute) for node in graph.node)
    return (len(graph.node), len(graph.output), attributes, len(graph.input), len(model.SerializeToString()))


def shrink(model, feeds, fails, evaluate, most_tries=400):
    """The smallest model found for which fails(model, feeds) still holds."""
    tries = 0
    progress = True
    while progress and tries < most_tries:
        progress = False
        values = intermediate_values(model, feeds, evaluate)
        for smaller, inputs in candidates(model, feeds, values):
            if not smaller.graph.node or size_of(smaller, inputs) >= size_of(model, feeds):
                continue
            tries += 1
            if tries > most_tries:
                break
            if fails(smaller, inputs):
                model, feeds, progress = smaller, inputs, True
                break
    return model, feeds

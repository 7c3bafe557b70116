#!/usr/bin/env python3
"""Writes rope_golden.json: inverse frequencies as Hugging Face transformers computes them.

    pip install transformers numpy && python make_rope_golden.py > rope_golden.json

Needs no PyTorch: the functions of transformers.modeling_rope_utils use a handful of array operations,
which numpy in float32 stands in for here.
"""
import json, math, sys, types
import numpy as np
import transformers, transformers.modeling_rope_utils as rope

class Array(np.ndarray):
    def to(self, device=None, dtype=None): return self.astype(dtype) if dtype else self

def wrap(a): return np.asarray(a).view(Array)

torch = types.SimpleNamespace(
    float=np.float32, float32=np.float32, int64=np.int64,
    arange=lambda *a, dtype=np.int64, **k: wrap(np.arange(*a, dtype=dtype)),
    clamp=lambda x, lo, hi: wrap(np.clip(x, lo, hi)), where=lambda c, a, b: wrap(np.where(c, a, b)))
rope.torch = torch

HEAD_DIM = 64
CASES = [
    {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
     "original_max_position_embeddings": 8192},
    {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
     "original_max_position_embeddings": 8192},
    {"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 4.0, "original_max_position_embeddings": 32768},
    {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 40.0, "original_max_position_embeddings": 4096,
     "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0},
    {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 40.0, "original_max_position_embeddings": 4096,
     "mscale": 0.707, "mscale_all_dim": 1.0},
    {"rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "original_max_position_embeddings": 4096,
     "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False},
    {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 16.0, "original_max_position_embeddings": 2048,
     "attention_factor": 1.25},
    {"rope_type": "yarn", "rope_theta": 10000.0, "factor": None, "original_max_position_embeddings": 16384},
]

def compute(parameters):
    config = types.SimpleNamespace(
        rope_parameters=parameters, hidden_size=8 * HEAD_DIM, num_attention_heads=8, head_dim=HEAD_DIM,
        max_position_embeddings=131072, standardize_rope_params=lambda: None)
    inv_freq, scale = rope.ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config)
    return {"rope_parameters": parameters, "inv_freq": [float(f"{x:.8g}") for x in np.asarray(inv_freq, np.float64)],
            "magnitude": float(scale)}

json.dump({"oracle": f"transformers {transformers.__version__}", "head_dim": HEAD_DIM, "max_position_embeddings": 131072,
           "cases": [compute(c) for c in CASES]}, sys.stdout, separators=(",", ":"))

#!/usr/bin/env python3
"""KV transfer between two processes: `baton bench transfer` and NIXL (Python API, UCX) in turns (A B A B ...).

    pip install nixl-cu13==1.5.1 numpy        # and a `torch` module; UCX chooses shared memory by itself
    benchmarks/nixl_pair.py build/release/baton shm 3
    UCX_TLS=tcp,self benchmarks/nixl_pair.py build/release/baton tcp 3

72 MiB a round; medians and ranges of GB/s (10^9 bytes/s) and of the ratio of each pair.
"""
import json, multiprocessing as mp, os, statistics as st, subprocess, sys, time
import numpy as np
baton, provider, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
sizes = [4, 16, 64, 1024]
def run(role, q_in, q_out, res, total, blk):
    import nixl_cu13._api as api
    ag = api.nixl_agent(role, api.nixl_agent_config(backends=["UCX"]))
    buf = np.zeros(total, dtype=np.uint8)
    if role == "init": buf[:] = 7
    addr = buf.ctypes.data
    ag.register_memory([(addr, total, 0, "")], "DRAM")
    descs = ag.get_xfer_descs([(addr + i * blk, blk, 0) for i in range(total // blk)], "DRAM")
    if role == "tgt":
        q_out.put((ag.get_agent_metadata(), ag.get_serialized_descs(descs))); q_in.get(); return
    meta, d = q_in.get(); name = ag.add_remote_agent(meta); rd = ag.deserialize_descs(d)
    h = ag.initialize_xfer("WRITE", descs, rd, name, b"x"); out = []
    for it in range(8):
        t = time.perf_counter(); s = ag.transfer(h)
        while s != "DONE":
            s = ag.check_xfer_state(h)
            if s == "ERR": raise SystemExit("ERR")
        if it >= 3: out.append(total / (time.perf_counter() - t) / 1e9)
    res.put(st.median(out)); q_out.put(1)
def nixl(blk):
    a, b, r = mp.Queue(), mp.Queue(), mp.Queue(); total = 72 << 20
    p1 = mp.Process(target=run, args=("tgt", b, a, r, total, blk << 10)); p2 = mp.Process(target=run, args=("init", a, b, r, total, blk << 10))
    # a: tgt -> init, b: init -> tgt
    p1.start(); p2.start(); v = r.get(timeout=45); p2.join(5); p1.join(5); p1.kill(); p2.kill(); return v
def mine(blk):
    r = subprocess.run([baton, "bench", "transfer", "--provider", provider, "--block-kib", str(blk), "--total-mib", "72", "--rounds", "5", "--latency-samples", "0", "--json"], capture_output=True, text=True, timeout=60)
    lines = [json.loads(l) for l in r.stdout.splitlines() if l.startswith("{")]
    return lines[-1]
if __name__ == "__main__":
    print("cores", os.cpu_count(), "provider", provider, "UCX_TLS", os.environ.get("UCX_TLS"))
    for blk in sizes:
        b, n = [], []
        for _ in range(rounds):
            m = mine(blk); b.append(m["gbps"]); assert m["wrong"] == 0
            n.append(nixl(blk))
        ra = [x / y for x, y in zip(b, n)]
        print(f"{provider} {blk:5} KiB  baton {st.median(b):6.2f} ({min(b):.2f}-{max(b):.2f})  nixl {st.median(n):6.2f} ({min(n):.2f}-{max(n):.2f})  ratio {st.median(ra):5.2f} ({min(ra):.2f}-{max(ra):.2f})", flush=True)

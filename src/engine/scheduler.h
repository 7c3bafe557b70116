// The scheduler: a pure state machine. Events in (arrivals, aborts, reservations, step results,
// time), a batch plan out. No clock, no thread, no I/O, so the simulator and seeded tests run it as
// it is. Owns the page pool and the prefix cache (both plain data structures).
//
// Continuous batching with chunked prefill: each step spends its token budget on running decodes
// first (one token each), then on prompts in FCFS order, long ones cut at page borders. Admission
// keeps head-room for what running requests may still produce; when pages run out nonetheless, the
// running request with the fewest output tokens (then the longest prompt) is retracted: its pages
// are freed and it waits, ahead of new arrivals, to recompute prompt + output. Prefill-only
// requests and reservations are never retracted. The last running request is never retracted: a
// request that cannot fit alone ends with kFailed.
#pragma once

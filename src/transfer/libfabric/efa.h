// What is peculiar to EFA: options of its endpoints, what they say about the hardware, its errors.
// Follows the provider's documentation and sources (1.18 to 2.6); never run on EFA hardware.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "transfer/libfabric/handles.h"

namespace baton::transfer::efa {

// Options by number: they are part of libfabric's ABI, and headers before 1.18 have no names for
// them (efa.cpp compares with those that do). A library that does not know one says so.
inline constexpr int kCudaApiPermitted = 10;       // bool
inline constexpr int kSharedMemoryPermitted = 11;  // bool
inline constexpr int kMaxRmaSize = 14;             // size_t
inline constexpr int kRnrRetry = -(0xefa << 16);   // size_t, 7: for ever
inline constexpr int kEmulatedRead = kRnrRetry + 1;   // bool, get only
inline constexpr int kEmulatedWrite = kRnrRetry + 2;  // bool, get only
inline constexpr int kUseUnsolicitedWriteRecv = kRnrRetry + 8;  // bool, 2.5 or later

// Completion errors (prov_errno) that something here depends on.
inline constexpr int kUnknownPeer = 14;

// Between fi_endpoint and fi_enable. What a library does not know keeps its default (logged).
void Tune(fid_ep* endpoint, const fi_info& info);

// After fi_enable. What the library cannot tell counts as native.
struct Hardware {
  bool writes = true;  // RDMA write in hardware, not emulated by messages
  bool reads = true;
};
Hardware Ask(fid_ep* endpoint);
std::optional<uint64_t> LongestRma(fid_ep* endpoint);

// What an error means and what to do about it; empty for those that need no more words.
std::string_view Explain(int prov_errno);

// A peer that has not inserted our address yet may be tried again; every other error of the way to a
// peer, or of its permission, comes when the device's own retries are over.
constexpr bool MeansPeerLost(int prov_errno) { return prov_errno != kUnknownPeer; }

}  // namespace baton::transfer::efa

// What prefill and decode say to each other over the bootstrap port: small binary bodies of HTTP
// requests between two Batons (docs/pd-protocol.md). Decoding is safe on hostile bytes.
//
//   POST /baton/v1/register   PeerInfo -> Hello, pulses   once per pairing, open while it holds
//   POST /baton/v1/grant      Grant -> frames Seal?, End  one per request, open until the end
//   POST /baton/v1/cancel     Cancel -> empty             decode gives up; End comes on the grant, if any
//   POST /baton/v1/heartbeat  u64 instance -> u64 instance, each second while paired
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/clock.h"
#include "common/status.h"
#include "engine/engine.h"
#include "kernels/paged_kv.h"
#include "transfer/plan.h"
#include "transfer/transfer.h"

namespace baton::disagg {

inline constexpr uint32_t kProtocolVersion = 3;
inline constexpr std::string_view kContentType = "application/x-baton";

// The answer to a registration: a length and prefill's PeerInfo, then a pulse now and then, which only keeps
// boxes on the way from closing a quiet connection. Without any for kLineSilence it is dead.
inline constexpr Duration kLinePulse = 10s;
inline constexpr Duration kLineSilence = 35s;
inline constexpr std::string_view kPulse{"\0", 1};

// Who a server is: `instance` is drawn at random when the process starts, so that a restarted
// server on the same address is seen as another one.
struct PeerInfo {
  uint64_t instance = 0;
  uint64_t pairing = 0;       // drawn by decode for each registration; its grants carry it
  std::string name;           // "prefill 127.0.0.1:30001": for messages
  std::string model;          // architecture and shape; both sides must agree
  kernels::KvLayout layout;   // page sizes may differ, all else must agree
  uint64_t clock = 0;         // equal where both sides read the same monotonic clock; 0: not known
  std::string fabric;         // transfer::Engine::Describe()
};

// Decode -> prefill: where the KV of one request goes.
struct Grant {
  uint64_t decode_instance = 0;
  uint64_t prefill_instance = 0;  // whom decode believes to talk to
  uint64_t pairing = 0;           // of the registration that it belongs to: a late grant of an
                                  // earlier one must not be served with the keys of this one
  int64_t room = 0;
  transfer::Slot slot;
  int32_t prompt_tokens = 0;      // with the delivered outputs of a resumed request
  int32_t cached_tokens = 0;      // decode holds the KV of these; a multiple of its page size
  std::vector<PageId> pages;      // for the tokens from cached_tokens on
  uint32_t deadline_ms = 0;
  bool want_logprobs = false;
};

// Decode -> prefill: the request failed or was given up here. Prefill stops, or does not wait for a grant.
struct Cancel {
  uint64_t decode_instance = 0;
  int64_t room = 0;
  std::string_view guilty = "none";  // whose fault it is: "prefill", "decode" or "none"
  Status why;
};

// Prefill -> decode: the first token, and how many writes make the transfer complete.
struct Seal {
  uint32_t writes = 0;
  uint64_t bytes = 0;
  engine::FirstToken first;
  float queue_ms = 0;             // from request and grant both there to its first step
  float prefill_ms = 0;           // from its first step to the first token
  // On PeerInfo::clock, 0 when not known: the last layer's keys and values were computed (the rest of that
  // layer, the head and the sampling come behind it), the first token was there.
  int64_t last_layer_ns = 0;
  int64_t first_token_ns = 0;
};

// Prefill -> decode: it is over, and no write of it is in flight any more.
struct End {
  Status status;
};

std::string Encode(const PeerInfo& v);
std::string Encode(const Grant& v);
std::string Encode(const Cancel& v);
std::string EncodeHello(const PeerInfo& v);
// Frames of the grant's answer: u32 length, u8 kind, payload.
std::string EncodeFrame(const Seal& v);
std::string EncodeFrame(const End& v);

Result<PeerInfo> DecodePeerInfo(std::string_view bytes);
Result<Grant> DecodeGrant(std::string_view bytes);
Result<Cancel> DecodeCancel(std::string_view bytes);

// The PeerInfo at the beginning of a registration's answer; nullopt: more bytes are needed.
Result<std::optional<PeerInfo>> DecodeHello(std::string_view bytes);

using Frame = std::variant<Seal, End>;
// Cuts frames out of a byte stream.
class FrameParser {
 public:
  void Feed(std::string_view bytes) { buffer_.append(bytes); }
  // nullopt: more bytes are needed.
  Result<std::optional<Frame>> Next();

 private:
  std::string buffer_;
};

// The pool of a server with this layout, as transfer plans see it.
transfer::PoolLayout PoolLayoutOf(const kernels::KvLayout& layout);

// Pages that tokens [cached_tokens, prompt_tokens) take where a page has page_tokens of them.
// cached_tokens must be a multiple of that.
int64_t PagesFor(int64_t prompt_tokens, int64_t cached_tokens, int64_t page_tokens);

// OK when KV of one can move into pages of the other; else says what differs and how to mend it.
Status CheckCompatible(const PeerInfo& mine, const PeerInfo& theirs);

}  // namespace baton::disagg

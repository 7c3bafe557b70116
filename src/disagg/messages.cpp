#include "disagg/messages.h"

#include <algorithm>
#include <array>

#include "common/bytes.h"

namespace baton::disagg {
namespace {

constexpr size_t kMaxPages = 1 << 22;
constexpr size_t kMaxText = 1 << 16;
constexpr size_t kMaxFabric = 1 << 20;
constexpr size_t kMaxHello = kMaxFabric + 4 * kMaxText;
constexpr size_t kMaxLogprobs = 1 << 12;
constexpr size_t kMaxPrompt = 1 << 24;
constexpr int kMaxPageTokens = 1024;  // as --page-size: each size of a peer is a plan that is kept
constexpr size_t kMaxFrame = size_t{1} << 30;
enum class FrameKind : uint8_t { kSeal = 1, kEnd = 2 };
constexpr std::array<std::string_view, 3> kSides = {"none", "prefill", "decode"};

void PutLogprob(ByteWriter& w, const engine::TokenLogprob& v) {
  w.Put(v.token);
  w.Put(v.logprob);
  for (const auto* list : {&v.top, &v.requested}) {
    w.Put(static_cast<uint32_t>(list->size()));
    for (const auto& [token, logprob] : *list) {
      w.Put(token);
      w.Put(logprob);
    }
  }
}

engine::TokenLogprob GetLogprob(ByteReader& r) {
  engine::TokenLogprob v;
  v.token = r.Get<int32_t>();
  v.logprob = r.Get<float>();
  for (auto* list : {&v.top, &v.requested}) {
    const uint32_t count = r.Get<uint32_t>();
    for (uint32_t i = 0; i < count && i < kMaxLogprobs && !r.failed(); ++i) {
      const auto token = r.Get<int32_t>();
      list->emplace_back(token, r.Get<float>());
    }
  }
  return v;
}

template <typename T>
Result<T> Checked(T value, const ByteReader& r, std::string_view what) {
  if (Status s = r.Finish(); !s.ok()) return s.Prefixed(what);
  return value;
}

Result<Seal> DecodeSeal(std::string_view bytes) {
  ByteReader r(bytes);
  Seal v;
  v.writes = r.Get<uint32_t>();
  v.bytes = r.Get<uint64_t>();
  v.queue_ms = r.Get<float>();
  v.prefill_ms = r.Get<float>();
  v.last_layer_ns = r.Get<int64_t>();
  v.first_token_ns = r.Get<int64_t>();
  v.first.token = r.Get<int32_t>();
  v.first.cached_tokens = r.Get<int32_t>();
  v.first.logprob = GetLogprob(r);
  const uint32_t count = r.Get<uint32_t>();
  for (uint32_t i = 0; i < count && i < kMaxPrompt && !r.failed(); ++i) {
    v.first.prompt_logprobs.push_back(GetLogprob(r));
  }
  return Checked(std::move(v), r, "seal");
}

void PutStatus(ByteWriter& w, const Status& v) {
  w.Put(v.code());
  w.PutString(std::string_view(v.message()).substr(0, kMaxText));
}

// nullopt: there is no such code.
std::optional<Status> GetStatus(ByteReader& r) {
  const auto code = r.Get<uint8_t>();
  std::string message = r.GetString(kMaxText);
  if (code >= kCodeCount) return std::nullopt;
  return Status(static_cast<Code>(code), std::move(message));
}

Result<End> DecodeEnd(std::string_view bytes) {
  ByteReader r(bytes);
  auto status = GetStatus(r);
  if (!status) return Error(Code::kDataCorrupt, "end: unknown code");
  return Checked(End{*std::move(status)}, r, "end");
}

std::string FrameOf(FrameKind kind, const std::string& payload) {
  ByteWriter w;
  w.Put(static_cast<uint32_t>(payload.size()));
  w.Put(kind);
  return std::move(w).bytes() + payload;
}

}  // namespace

std::string Encode(const PeerInfo& v) {
  ByteWriter w;
  w.Put(kProtocolVersion);
  w.Put(v.instance);
  w.Put(v.pairing);
  w.PutString(v.name);
  w.PutString(v.model);
  w.Put(v.layout.layers);
  w.Put(v.layout.page_tokens);
  w.Put(v.layout.kv_heads);
  w.Put(v.layout.head_dim);
  w.Put(v.layout.dtype);
  w.Put(v.clock);
  w.PutString(v.fabric);
  return std::move(w).bytes();
}

Result<PeerInfo> DecodePeerInfo(std::string_view bytes) {
  ByteReader r(bytes);
  const auto version = r.Get<uint32_t>();
  if (!r.failed() && version != kProtocolVersion) {
    return Error(Code::kUnsupported, "peer speaks PD protocol {}, this Baton speaks {}: run the same version "
                 "on both sides", version, kProtocolVersion);
  }
  PeerInfo v;
  v.instance = r.Get<uint64_t>();
  v.pairing = r.Get<uint64_t>();
  v.name = r.GetString(kMaxText);
  v.model = r.GetString(kMaxText);
  v.layout.layers = r.Get<int>();
  v.layout.page_tokens = r.Get<int>();
  v.layout.kv_heads = r.Get<int>();
  v.layout.head_dim = r.Get<int>();
  const auto dtype = r.Get<uint8_t>();
  v.layout.dtype = static_cast<kernels::DType>(dtype);
  v.clock = r.Get<uint64_t>();
  v.fabric = r.GetString(kMaxFabric);
  if (dtype > static_cast<uint8_t>(kernels::DType::kBF16)) {
    return Error(Code::kDataCorrupt, "peer info: KV number format {} is unknown", dtype);
  }
  return Checked(std::move(v), r, "peer info");
}

std::string Encode(const Grant& v) {
  ByteWriter w;
  w.Put(v.decode_instance);
  w.Put(v.prefill_instance);
  w.Put(v.pairing);
  w.Put(v.room);
  w.Put(v.slot.index);
  w.Put(v.slot.generation);
  w.Put(v.prompt_tokens);
  w.Put(v.cached_tokens);
  w.PutArray<PageId>(v.pages);
  w.Put(v.deadline_ms);
  w.Put(static_cast<uint8_t>(v.want_logprobs));
  return std::move(w).bytes();
}

Result<Grant> DecodeGrant(std::string_view bytes) {
  ByteReader r(bytes);
  Grant v;
  v.decode_instance = r.Get<uint64_t>();
  v.prefill_instance = r.Get<uint64_t>();
  v.pairing = r.Get<uint64_t>();
  v.room = r.Get<int64_t>();
  v.slot.index = r.Get<uint32_t>();
  v.slot.generation = r.Get<uint8_t>();
  v.prompt_tokens = r.Get<int32_t>();
  v.cached_tokens = r.Get<int32_t>();
  v.pages = r.GetArray<PageId>(kMaxPages);
  v.deadline_ms = r.Get<uint32_t>();
  v.want_logprobs = r.Get<uint8_t>() != 0;
  if (v.prompt_tokens < 0 || v.cached_tokens < 0 || v.cached_tokens > v.prompt_tokens) {
    return Error(Code::kDataCorrupt, "grant: {} cached of {} prompt tokens", v.cached_tokens, v.prompt_tokens);
  }
  return Checked(std::move(v), r, "grant");
}

std::string Encode(const Cancel& v) {
  ByteWriter w;
  w.Put(v.decode_instance);
  w.Put(v.room);
  w.Put(static_cast<uint8_t>(std::find(kSides.begin(), kSides.end(), v.guilty) - kSides.begin()));
  PutStatus(w, v.why);
  return std::move(w).bytes();
}

Result<Cancel> DecodeCancel(std::string_view bytes) {
  ByteReader r(bytes);
  Cancel v;
  v.decode_instance = r.Get<uint64_t>();
  v.room = r.Get<int64_t>();
  const auto side = r.Get<uint8_t>();
  auto why = GetStatus(r);
  if (side >= kSides.size() || !why || why->ok()) return Error(Code::kDataCorrupt, "cancel: no side or no reason");
  v.guilty = kSides[side];
  v.why = *std::move(why);
  return Checked(std::move(v), r, "cancel");
}

std::string EncodeHello(const PeerInfo& v) {
  ByteWriter w;
  w.PutString(Encode(v));
  return std::move(w).bytes();
}

Result<std::optional<PeerInfo>> DecodeHello(std::string_view bytes) {
  if (bytes.size() < sizeof(uint32_t)) return std::optional<PeerInfo>();
  ByteReader header(bytes.substr(0, sizeof(uint32_t)));
  const auto size = header.Get<uint32_t>();
  bytes.remove_prefix(sizeof(uint32_t));
  if (size > kMaxHello) return Error(Code::kDataCorrupt, "hello of {} bytes", size);
  if (bytes.size() < size) return std::optional<PeerInfo>();
  auto info = DecodePeerInfo(bytes.substr(0, size));
  if (!info.ok()) return info.status();
  return std::optional<PeerInfo>(*std::move(info));
}

std::string EncodeFrame(const Seal& v) {
  ByteWriter w;
  w.Put(v.writes);
  w.Put(v.bytes);
  w.Put(v.queue_ms);
  w.Put(v.prefill_ms);
  w.Put(v.last_layer_ns);
  w.Put(v.first_token_ns);
  w.Put(v.first.token);
  w.Put(static_cast<int32_t>(v.first.cached_tokens));
  PutLogprob(w, v.first.logprob);
  w.Put(static_cast<uint32_t>(v.first.prompt_logprobs.size()));
  for (const auto& logprob : v.first.prompt_logprobs) PutLogprob(w, logprob);
  return FrameOf(FrameKind::kSeal, w.bytes());
}

std::string EncodeFrame(const End& v) {
  ByteWriter w;
  PutStatus(w, v.status);
  return FrameOf(FrameKind::kEnd, w.bytes());
}

Result<std::optional<Frame>> FrameParser::Next() {
  constexpr size_t kHeader = sizeof(uint32_t) + sizeof(FrameKind);
  if (buffer_.size() < kHeader) return std::optional<Frame>();
  ByteReader header(std::string_view(buffer_).substr(0, kHeader));
  const auto size = header.Get<uint32_t>();
  const auto kind = header.Get<FrameKind>();
  if (size > kMaxFrame) return Error(Code::kDataCorrupt, "frame of {} bytes", size);
  if (buffer_.size() < kHeader + size) return std::optional<Frame>();
  const std::string payload = buffer_.substr(kHeader, size);
  buffer_.erase(0, kHeader + size);
  if (kind == FrameKind::kSeal) {
    auto seal = DecodeSeal(payload);
    if (!seal.ok()) return seal.status();
    return std::optional<Frame>(std::move(*seal));
  }
  if (kind != FrameKind::kEnd) return Error(Code::kDataCorrupt, "frame of kind {}", static_cast<int>(kind));
  auto end = DecodeEnd(payload);
  if (!end.ok()) return end.status();
  return std::optional<Frame>(std::move(*end));
}

transfer::PoolLayout PoolLayoutOf(const kernels::KvLayout& l) {
  constexpr uint32_t kKeysAndValues = 2;
  return transfer::PoolLayout::PageMajor(static_cast<uint32_t>(l.layers), kKeysAndValues,
                                         static_cast<uint32_t>(l.page_tokens), static_cast<uint32_t>(l.kv_heads),
                                         l.head_dim * l.ElementBytes());
}

int64_t PagesFor(int64_t prompt_tokens, int64_t cached_tokens, int64_t page_tokens) {
  return (prompt_tokens + page_tokens - 1) / page_tokens - cached_tokens / page_tokens;
}

Status CheckCompatible(const PeerInfo& mine, const PeerInfo& theirs) {
  if (mine.model != theirs.model) {
    return Error(Code::kInvalidArgument, "{} serves {} but {} serves {}: start both with the same --model-path",
                 mine.name, mine.model, theirs.name, theirs.model);
  }
  kernels::KvLayout same = theirs.layout;
  same.page_tokens = mine.layout.page_tokens;
  if (!(mine.layout == same)) {
    return Error(Code::kInvalidArgument, "KV layouts differ: {} has {}, {} has {}: use the same --kv-cache-dtype on both",
                 mine.name, mine.layout.ToString(), theirs.name, theirs.layout.ToString());
  }
  if (theirs.layout.page_tokens < 1 || theirs.layout.page_tokens > kMaxPageTokens) {
    return Error(Code::kInvalidArgument, "{} has pages of {} tokens: --page-size must be from 1 to {}", theirs.name,
                 theirs.layout.page_tokens, kMaxPageTokens);
  }
  return Status::Ok();
}

}  // namespace baton::disagg

#include "disagg/heartbeat.h"

#include "common/bytes.h"

namespace baton::disagg {

Beat JudgeBeat(const Result<http::Response>& reply, uint64_t instance) {
  if (!reply.ok()) {
    switch (reply.status().code()) {
      case Code::kRefused: return Beat::kGone;
      case Code::kResourceExhausted: return Beat::kNotAsked;
      default: return Beat::kMissed;
    }
  }
  if (reply->status == 409) return Beat::kRestarted;
  if (reply->status != 200) return Beat::kMissed;
  ByteReader reader(reply->body);
  const auto answering = reader.Get<uint64_t>();
  if (reader.failed()) return Beat::kMissed;
  return answering == instance ? Beat::kAlive : Beat::kRestarted;
}

}  // namespace baton::disagg

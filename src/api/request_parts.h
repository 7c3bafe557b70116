// Pieces shared by the three request parsers. Internal to api/.
#pragma once

#include "api/fields.h"
#include "api/generate.h"

namespace baton::api {

inline constexpr int kMaxSamples = 128;       // n
inline constexpr int kMaxBatch = 4096;        // prompts of one request
inline constexpr int kMaxStops = 64;
inline constexpr int kMaxTopLogprobs = 256;

// Reads the sampling fields that every API spells alike (temperature, top_p ... stop, seed).
void ReadCommonSampling(FieldReader& reader, SamplingParams& out);
// bootstrap_host/port/room as scalars or lists; gives `count` entries or none.
void ReadBootstraps(FieldReader& reader, size_t count, std::vector<Bootstrap>& out);
// Constrained decoding and adapters are known fields that this build does not serve.
void RefuseUnsupported(FieldReader& reader);

inline std::optional<RequestError> ErrorOf(const FieldReader& reader) {
  if (reader.status().ok()) return std::nullopt;
  return RequestError{reader.status(), reader.field()};
}
inline RequestError MakeError(std::string param, Status status) {
  return {std::move(status), std::move(param)};
}

}  // namespace baton::api

// How a broken stream goes on at another server (docs/migration.md): the router sends the request
// again with what it has already given to the client, in the member "baton_resume":
//
//   {"id": S, "created": unix, "migrations": N,
//    "choices": [{"ids": [output ids], "opened": bool, "ended": bool, "id": S}, ...]}
//
// one entry per choice (prompts x n), in order. `id`, `created`, `opened` and `ended` may be
// absent. The server goes on behind the ids as if it had made them itself.
//
// And how the router learns of these ids: a request with the header x-baton-stream-ids gets an SSE
// comment in front of every event (comments are invisible to SSE clients; the router drops them):
//
//   : id <choice> <created> <JSON string>   identity, before the first event of a choice
//   : ids <choice> <id>,<id>,...            the outputs that the event adds (may be none)
//   : end <choice>                          the event is the choice's last
//   : last                                  the event is the last before [DONE]
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/fields.h"

namespace baton::api {

inline constexpr std::string_view kStreamIdsHeader = "x-baton-stream-ids";  // both ways, "1"
inline constexpr std::string_view kResumedHeader = "x-baton-resumed";       // of such an answer, "1"

struct ResumeChoice {
  std::vector<int32_t> ids;
  bool opened = false;  // the client has had events of it
  bool ended = false;   // the client has had its last event
  std::string id;       // /generate: meta_info.id; empty: as for a new request
};

struct Resume {
  std::string id;       // empty: as for a new request
  int64_t created = 0;  // 0: now
  int migrations = 1;   // of this stream so far, this one included
  std::vector<ResumeChoice> choices;
};

// Reads "baton_resume" of a request with `choices` outputs. Fails the reader when it is malformed,
// its choices are not as many, or the request is not streamed.
void ReadResume(FieldReader& reader, size_t choices, bool stream, std::optional<Resume>& out);

}  // namespace baton::api

// What a client's stream has been given so far, so that another pair can go on with it when the
// decode worker dies (docs/migration.md).
//
// Baton's servers put SSE comments in front of each event that say which tokens it stands for
// (api/resume.h). This object takes them out of the byte stream and remembers them: the client
// sees none. Streams of workers that send no such comments pass unchanged and are not resumable.
// Lives in the request's coroutine, outlives its attempts. Safe on hostile bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/generate_resume.h"
#include "router/logprobs.h"

namespace baton::router {

class StreamRecord {
 public:
  // More ids than this are not kept: such a stream is not resumable.
  static constexpr size_t kMaxIds = 1 << 20;

  explicit StreamRecord(size_t choices) : choices_(choices) {}

  // The head of a worker's answer: does it send the comments?
  void Begin(bool with_comments) { with_comments_ = with_comments; }
  bool with_comments() const { return with_comments_; }

  // `events` are whole events as SseFramer cut them; those that are taken are cut off. Returns what
  // the client gets of them. Stops before an event that no comment announced and that is not
  // [DONE]: an error of the worker. The view lives until the next call.
  std::string_view Take(std::string_view& events);
  // Cuts off the one event that Take stopped at, as it is.
  static std::string_view Skip(std::string_view& events);

  // Another worker can go on from here: behind the ids of the comments,
  bool resumable() const { return with_comments_ && intact_ && count_ <= kMaxIds; }
  // or by a changed request, when the worker sends none. Set by the handler for /generate.
  std::optional<GenerateResume> generate;
  bool resumable_by_prompt() const { return !with_comments_ && generate && generate->resumable(); }
  // Everything but [DONE] has gone to the client.
  bool complete() const { return last_seen_; }
  // `"baton_resume":{...}` for the next worker's request.
  std::string ResumeMember(int migrations) const;

  // Logprobs of the prompt, from the first attempt's prefill; each later event gets them.
  std::optional<InputLogprobs> logprobs;

 private:
  struct Choice {
    std::vector<int32_t> ids;
    std::string id;  // a JSON string
    bool opened = false;
    bool ended = false;
  };

  // One comment line without its line break. False: not one of ours.
  bool TakeComment(std::string_view line);
  Choice* ChoiceAt(std::string_view& text);

  std::vector<Choice> choices_;
  std::string created_;  // digits
  std::string out_;      // keeps what Take returned
  size_t count_ = 0;
  bool with_comments_ = false;
  bool intact_ = true;  // every comment made sense
  bool last_seen_ = false;
};

}  // namespace baton::router

// What a worker's comments can do to the router: nothing but be remembered. The continuation that is
// made of them must be JSON, and taking the same bytes in two halves must give the same.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "common/json.h"
#include "router/generate_resume.h"
#include "router/sse_frame.h"
#include "router/stream_record.h"

namespace {

std::string Feed(baton::router::StreamRecord& record, std::string_view bytes, size_t cut) {
  baton::router::SseFramer framer;
  std::string out;
  for (const std::string_view piece : {bytes.substr(0, cut), bytes.substr(cut)}) {
    const std::string whole(framer.Feed(piece));
    std::string_view events = whole;
    while (!events.empty()) {
      out += record.Take(events);
      if (!events.empty()) out += baton::router::StreamRecord::Skip(events);
    }
  }
  // The framer may hold a stray last line break for its next piece.
  while (out.ends_with('\n') || out.ends_with('\r')) out.pop_back();
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t cut = bytes.empty() ? 0 : data[0] % (bytes.size() + 1);
  baton::router::StreamRecord one(3), two(3);
  one.Begin(true);
  two.Begin(true);
  if (Feed(one, bytes, 0) != Feed(two, bytes, cut)) std::abort();
  const std::string member = one.ResumeMember(1);
  if (member != two.ResumeMember(1)) std::abort();
  if (!baton::json::Parse("{" + member + "}").ok() && baton::json::IsValidUtf8(bytes)) std::abort();

  const size_t half = bytes.size() / 2;
  if (auto resume = baton::router::GenerateResume::For(bytes.substr(0, half))) {
    resume->Note(bytes.substr(half));
    if (resume->resumable() && !baton::json::Parse(resume->NextBody()).ok()) std::abort();
  }
  return 0;
}

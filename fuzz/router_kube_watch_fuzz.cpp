// What a Kubernetes API server may send, well formed or not: the lines of a watch must not depend on how
// the bytes were cut, and whatever came, one good list sets everything right.
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "router/discovery/line_splitter.h"
#include "router/discovery/pod_follower.h"

namespace {

using namespace baton::router;  // NOLINT

constexpr const char* kGoodList =
    R"({"metadata":{"resourceVersion":"9"},"items":[{"metadata":{"uid":"u","labels":{"r":"p"}},)"
    R"("status":{"podIP":"10.0.0.1","phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}]})";

KubeOptions Options() {
  KubeOptions o;
  o.prefill_selector = {{"r", "p"}};
  o.decode_selector = {{"r", "d"}};
  return o;
}

std::vector<std::string> Keys(const PodFollower& follower) {
  std::vector<std::string> keys;
  std::set<std::string> urls;
  for (const WantedWorker& w : follower.Wanted()) {
    keys.push_back(w.key);
    if (!urls.insert(w.config.url).second) std::abort();  // one worker per URL
  }
  return keys;
}

// The bytes as the stream of a watch, in pieces.
std::vector<std::string> Watch(std::string_view bytes, size_t piece, std::string* next) {
  PodFollower follower(Options(), true, 1);
  follower.OnList(200, kGoodList);
  LineSplitter lines(4096);
  bool going = true;
  while (going && !bytes.empty() && !lines.failed()) {
    const size_t n = std::min(piece, bytes.size());
    lines.Feed(bytes.substr(0, n));
    bytes.remove_prefix(n);
    while (going) {
      const auto line = lines.Next();
      if (!line) break;
      going = follower.OnWatchLine(*line);
    }
  }
  if (going && lines.failed()) follower.OnWatchGarbled("too long");
  else if (going) follower.OnWatchEnd(std::chrono::seconds(10));
  *next = follower.Next().target;
  return Keys(follower);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  std::string whole_next, pieces_next;
  const auto whole = Watch(bytes, 4000, &whole_next);
  const auto pieces = Watch(bytes, 1 + size % 7, &pieces_next);
  if (whole != pieces || whole_next != pieces_next) std::abort();

  PodFollower follower(Options(), true, 1);
  follower.OnList(200, bytes);
  follower.OnWatchRefused(static_cast<int>(400 + size % 120), bytes);
  (void)Keys(follower);
  for (int pages = 0; follower.Next().watch && pages < 4; ++pages) follower.OnWatchRefused(410, bytes);
  // A list under way may go on with this page; the one after it is whole in any case.
  follower.OnUnreachable("");
  follower.OnWatchRefused(410, "");
  follower.OnList(200, kGoodList);
  if (Keys(follower) != std::vector<std::string>{"u prefill http://10.0.0.1:80"}) std::abort();
  return 0;
}

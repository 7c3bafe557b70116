#include "tokenizer/bpe.h"

#include <algorithm>
#include <limits>

#include <boost/unordered/unordered_flat_map.hpp>

namespace baton::tokenizer {
namespace {

constexpr size_t kMaxWords = size_t{1} << 24;
constexpr uint32_t kNoRank = std::numeric_limits<uint32_t>::max();
// Up to here a scan for the lowest rank beats the heap; its cost is quadratic, so keep it small.
constexpr size_t kScanSymbols = 48;

struct MergeTarget {
  uint32_t rank;
  int32_t id;
};

uint64_t PairKey(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

struct WordInfo {
  int32_t id;
  bool closed;  // encoding these bytes by merges gives exactly this id
};

struct StringHash {
  size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
};

// A min-heap on `order` out of the standard max-heap functions.
bool Later(const BpeScratch::Candidate& a, const BpeScratch::Candidate& b) {
  return a.order > b.order;
}

}  // namespace

struct BpeModel::Impl {
  BpeOptions options;
  std::vector<BpeWord> words;  // owns the bytes that by_bytes points to
  boost::unordered_flat_map<std::string_view, WordInfo, StringHash> by_bytes;
  boost::unordered_flat_map<uint64_t, MergeTarget> merges;
  std::array<int32_t, 256> byte_id{};  // -1: the byte has no token

  uint32_t Rank(int32_t left, int32_t right) const {
    const auto found = merges.find(PairKey(left, right));
    return found == merges.end() ? kNoRank : found->second.rank;
  }
  int32_t Target(int32_t left, int32_t right) const {
    return merges.find(PairKey(left, right))->second.id;
  }

  Status IndexWords();
  Status IndexMerges(const std::vector<BpeMerge>& list);
  void MarkClosedWords();
  void LoadBytes(std::string_view piece, std::vector<int32_t>& ids) const;
  void MergeByScan(BpeScratch& scratch) const;
  void MergeByHeap(BpeScratch& scratch) const;
  void Queue(int32_t left, BpeScratch& scratch) const;
  void Merge(std::string_view piece, BpeScratch& scratch) const;
};

Status BpeModel::Impl::IndexWords() {
  if (words.size() > kMaxWords)
    return Error(Code::kDataCorrupt, "a vocabulary of {} words; at most {} are possible",
                 words.size(), kMaxWords);
  byte_id.fill(-1);
  by_bytes.reserve(words.size());
  for (const BpeWord& word : words) {
    if (word.bytes.empty()) return Error(Code::kDataCorrupt, "token {} is empty", word.id);
    const auto [at, fresh] = by_bytes.emplace(word.bytes, WordInfo{word.id, false});
    if (!fresh)
      return Error(Code::kDataCorrupt, "tokens {} and {} stand for the same bytes",
                   at->second.id, word.id);
    if (word.bytes.size() == 1) byte_id[static_cast<uint8_t>(word.bytes[0])] = word.id;
  }
  return Status::Ok();
}

Status BpeModel::Impl::IndexMerges(const std::vector<BpeMerge>& list) {
  if (list.size() > kMaxWords)
    return Error(Code::kDataCorrupt, "{} merges; at most {} are possible", list.size(), kMaxWords);
  merges.reserve(list.size());
  std::string joined;
  for (size_t rank = 0; rank < list.size(); ++rank) {
    const auto& [left, right] = list[rank];
    joined.assign(left).append(right);
    const auto l = by_bytes.find(left), r = by_bytes.find(right), both = by_bytes.find(joined);
    const auto end = by_bytes.end();
    if (l == end || r == end)
      return Error(Code::kDataCorrupt, "merge {}: its {} side is not in the vocabulary", rank,
                   l == end ? "left" : "right");
    if (both == end)
      return Error(Code::kDataCorrupt, "merge {}: its result is not in the vocabulary", rank);
    // A repeated merge counts at its last rank, as in Hugging Face tokenizers.
    merges[PairKey(l->second.id, r->second.id)] = {static_cast<uint32_t>(rank), both->second.id};
  }
  return Status::Ok();
}

// Most pre-tokens are one token. Knowing which words merge back to themselves turns those into a
// single lookup; words that don't (merges that a lower rank cuts off) still take the long way.
void BpeModel::Impl::MarkClosedWords() {
  BpeScratch scratch;
  for (auto& [bytes, info] : by_bytes) {
    Merge(bytes, scratch);
    info.closed = scratch.ids.size() == 1 && scratch.ids[0] == info.id;
  }
}

void BpeModel::Impl::LoadBytes(std::string_view piece, std::vector<int32_t>& ids) const {
  ids.clear();
  bool after_unknown = false;
  for (const char c : piece) {
    const int32_t id = byte_id[static_cast<uint8_t>(c)];
    const bool unknown = id < 0;
    if (!unknown) {
      ids.push_back(id);
    } else if (options.unknown_id && !(options.fuse_unknown && after_unknown)) {
      ids.push_back(*options.unknown_id);
    }
    after_unknown = unknown;
  }
}

void BpeModel::Impl::MergeByScan(BpeScratch& scratch) const {
  auto& ids = scratch.ids;
  auto& ranks = scratch.ranks;  // ranks[i]: merge of ids[i] with ids[i + 1]
  ranks.clear();
  for (size_t i = 0; i + 1 < ids.size(); ++i) ranks.push_back(Rank(ids[i], ids[i + 1]));
  while (!ranks.empty()) {
    const auto best = std::min_element(ranks.begin(), ranks.end());  // the leftmost of the lowest
    if (*best == kNoRank) return;
    const size_t i = static_cast<size_t>(best - ranks.begin());
    ids[i] = Target(ids[i], ids[i + 1]);
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    ranks.erase(best);
    if (i > 0) ranks[i - 1] = Rank(ids[i - 1], ids[i]);
    if (i + 1 < ids.size()) ranks[i] = Rank(ids[i], ids[i + 1]);
  }
}

void BpeModel::Impl::Queue(int32_t left, BpeScratch& scratch) const {
  const auto& symbols = scratch.symbols;
  if (left < 0 || symbols[left].next < 0) return;
  const int32_t left_id = symbols[left].id, right_id = symbols[symbols[left].next].id;
  const uint32_t rank = Rank(left_id, right_id);
  if (rank == kNoRank) return;
  scratch.heap.push_back({uint64_t{rank} << 32 | static_cast<uint32_t>(left), left_id, right_id});
  std::push_heap(scratch.heap.begin(), scratch.heap.end(), Later);
}

void BpeModel::Impl::MergeByHeap(BpeScratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  const auto count = static_cast<int32_t>(scratch.ids.size());
  symbols.clear();
  heap.clear();
  for (int32_t i = 0; i < count; ++i)
    symbols.push_back({scratch.ids[i], i - 1, i + 1 < count ? i + 1 : -1});
  for (int32_t i = 0; i + 1 < count; ++i) Queue(i, scratch);

  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), Later);
    const BpeScratch::Candidate top = heap.back();
    heap.pop_back();
    const auto left = static_cast<int32_t>(top.order & 0xFFFFFFFFu);
    const int32_t right = symbols[left].next;
    // A symbol that was merged away has id -1, which no candidate carries.
    if (right < 0 || symbols[left].id != top.left_id || symbols[right].id != top.right_id) continue;
    symbols[left].id = Target(top.left_id, top.right_id);
    symbols[left].next = symbols[right].next;
    if (symbols[right].next >= 0) symbols[symbols[right].next].previous = left;
    symbols[right].id = -1;
    Queue(symbols[left].previous, scratch);
    Queue(left, scratch);
  }
  scratch.ids.clear();
  for (int32_t i = count > 0 ? 0 : -1; i >= 0; i = symbols[i].next)
    scratch.ids.push_back(symbols[i].id);
}

// Leaves the result in scratch.ids.
void BpeModel::Impl::Merge(std::string_view piece, BpeScratch& scratch) const {
  LoadBytes(piece, scratch.ids);
  if (scratch.ids.size() <= kScanSymbols) {
    MergeByScan(scratch);
  } else {
    MergeByHeap(scratch);
  }
}

BpeModel::BpeModel(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BpeModel::BpeModel(BpeModel&&) noexcept = default;
BpeModel& BpeModel::operator=(BpeModel&&) noexcept = default;
BpeModel::~BpeModel() = default;

Result<BpeModel> BpeModel::Make(std::vector<BpeWord> words, const std::vector<BpeMerge>& merges,
                                const BpeOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->words = std::move(words);
  if (Status s = impl->IndexWords(); !s.ok()) return s;
  if (Status s = impl->IndexMerges(merges); !s.ok()) return s;
  if (!options.ignore_merges) impl->MarkClosedWords();
  return BpeModel(std::move(impl));
}

void BpeModel::Encode(std::string_view piece, BpeScratch& scratch,
                      std::vector<int32_t>& out) const {
  const auto word = impl_->by_bytes.find(piece);
  if (word != impl_->by_bytes.end() && (word->second.closed || impl_->options.ignore_merges)) {
    out.push_back(word->second.id);
    return;
  }
  impl_->Merge(piece, scratch);
  out.insert(out.end(), scratch.ids.begin(), scratch.ids.end());
}

std::optional<int32_t> BpeModel::Find(std::string_view bytes) const {
  const auto found = impl_->by_bytes.find(bytes);
  if (found == impl_->by_bytes.end()) return std::nullopt;
  return found->second.id;
}

}  // namespace baton::tokenizer

#include "tokenizer/bpe.h"

#include <random>

#include <gtest/gtest.h>

namespace baton::tokenizer {
namespace {

std::vector<int32_t> Encode(const BpeModel& model, std::string_view piece) {
  BpeScratch scratch;
  std::vector<int32_t> out;
  model.Encode(piece, scratch, out);
  return out;
}

BpeModel MakeModel(const std::vector<std::string>& words, const std::vector<BpeMerge>& merges,
                   const BpeOptions& options = {}) {
  std::vector<BpeWord> list;
  for (size_t i = 0; i < words.size(); ++i) list.push_back({words[i], static_cast<int32_t>(i)});
  auto model = BpeModel::Make(std::move(list), merges, options);
  EXPECT_TRUE(model.ok()) << model.status().ToString();
  return std::move(*model);
}

using Ids = std::vector<int32_t>;

TEST(Bpe, MergesTheLowestRankFirst) {
  // "bc" ranks before "ab": abc -> a bc, though "ab" comes first in the text.
  const auto model = MakeModel({"a", "b", "c", "bc", "ab"}, {{"b", "c"}, {"a", "b"}});
  EXPECT_EQ(Encode(model, "abc"), (Ids{0, 3}));
  EXPECT_EQ(Encode(model, "abab"), (Ids{4, 4}));
}

TEST(Bpe, MergesTheLeftmostOfEqualRanks) {
  const auto model = MakeModel({"a", "aa"}, {{"a", "a"}});
  EXPECT_EQ(Encode(model, "aaa"), (Ids{1, 0}));
}

TEST(Bpe, WholeWordsAreTakenOnlyWhenMergesAreIgnored) {
  const std::vector<std::string> words = {"a", "b", "c", "ab", "abc"};
  const std::vector<BpeMerge> merges = {{"a", "b"}};  // nothing merges into "abc"
  EXPECT_EQ(Encode(MakeModel(words, merges), "abc"), (Ids{3, 2}));
  EXPECT_EQ(Encode(MakeModel(words, merges, {.ignore_merges = true}), "abc"), (Ids{4}));
}

TEST(Bpe, ByteWithoutTokenIsDroppedOrUnknown) {
  const std::vector<std::string> words = {"a", "b", "?", "ab"};
  const std::vector<BpeMerge> merges = {{"a", "b"}};
  EXPECT_EQ(Encode(MakeModel(words, merges), "axxb"), (Ids{3}));
  EXPECT_EQ(Encode(MakeModel(words, merges, {.unknown_id = 2}), "axxb"), (Ids{0, 2, 2, 1}));
  EXPECT_EQ(Encode(MakeModel(words, merges, {.unknown_id = 2, .fuse_unknown = true}), "axxb"),
            (Ids{0, 2, 1}));
}

TEST(Bpe, RefusesBrokenVocabularies) {
  const auto status = [](std::vector<BpeWord> words, const std::vector<BpeMerge>& merges) {
    return BpeModel::Make(std::move(words), merges, {}).status().message();
  };
  EXPECT_EQ(status({{"a", 0}, {"a", 1}}, {}), "tokens 0 and 1 stand for the same bytes");
  EXPECT_EQ(status({{"", 3}}, {}), "token 3 is empty");
  EXPECT_EQ(status({{"a", 0}}, {{"a", "b"}}), "merge 0: its right side is not in the vocabulary");
  EXPECT_EQ(status({{"b", 0}}, {{"a", "b"}}), "merge 0: its left side is not in the vocabulary");
  EXPECT_EQ(status({{"a", 0}, {"b", 1}}, {{"a", "b"}}),
            "merge 0: its result is not in the vocabulary");
}

// The definition: while a pair has a rank, merge the leftmost pair of the lowest.
Ids EncodeSlowly(const std::vector<std::string>& words, const std::vector<BpeMerge>& merges,
                 std::string_view piece) {
  std::vector<std::string> parts;
  for (const char c : piece) parts.emplace_back(1, c);
  for (;;) {
    size_t best_rank = merges.size(), best = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        if (merges[rank].first != parts[i] || merges[rank].second != parts[i + 1]) continue;
        best_rank = rank;
        best = i;
      }
    }
    if (best_rank == merges.size()) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  Ids ids;
  for (const std::string& part : parts)
    ids.push_back(
        static_cast<int32_t>(std::find(words.begin(), words.end(), part) - words.begin()));
  return ids;
}

TEST(Bpe, ShortAndLongWordsFollowTheDefinition) {
  std::mt19937 random(5);
  for (int round = 0; round < 40; ++round) {
    std::vector<std::string> words = {"a", "b", "c"};
    std::vector<BpeMerge> merges;
    for (int i = 0; i < 30; ++i) {
      const std::string left = words[random() % words.size()];
      const std::string right = words[random() % words.size()];
      if (std::find(merges.begin(), merges.end(), BpeMerge{left, right}) != merges.end()) continue;
      merges.emplace_back(left, right);
      if (std::find(words.begin(), words.end(), left + right) == words.end())
        words.push_back(left + right);
    }
    std::shuffle(merges.begin(), merges.end(), random);
    const auto model = MakeModel(words, merges);
    for (int i = 0; i < 20; ++i) {
      std::string piece;  // lengths on both sides of where the heap takes over
      const size_t length = 1 + random() % 120;
      while (piece.size() < length) piece += static_cast<char>('a' + random() % 3);
      ASSERT_EQ(Encode(model, piece), EncodeSlowly(words, merges, piece)) << piece;
    }
  }
}

TEST(Bpe, WordOfAMegabyteIsNotQuadratic) {
  std::vector<std::string> words = {"a"};
  std::vector<BpeMerge> merges;
  for (int i = 0; i < 8; ++i) {
    merges.emplace_back(words.back(), words.back());
    words.push_back(words.back() + words.back());
  }
  const auto model = MakeModel(words, merges);
  const auto ids = Encode(model, std::string(1 << 20, 'a'));  // minutes, were it quadratic
  EXPECT_EQ(ids, Ids(1 << 12, 8));
}

TEST(Bpe, FindsWordsByTheirBytes) {
  const auto model = MakeModel({"a", std::string("\0b", 2)}, {});
  EXPECT_EQ(model.Find(std::string_view("\0b", 2)), 1);
  EXPECT_EQ(model.Find("b"), std::nullopt);
}

}  // namespace
}  // namespace baton::tokenizer

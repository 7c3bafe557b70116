#include <algorithm>
#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "router/policies/prefix_digest.h"
#include "router/policies/prefix_tree.h"

namespace baton::router {
namespace {

PrefixDigest Digest(std::string_view text) {
  PrefixDigestBuilder builder;
  builder.Feed(text);
  return builder.Finish();
}

std::string RandomText(std::mt19937_64& random, size_t size) {
  std::string text(size, ' ');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

size_t CommonKeys(const PrefixDigest& a, const PrefixDigest& b) {
  const auto x = a.keys(), y = b.keys();
  size_t same = 0;
  while (same < std::min(x.size(), y.size()) && x[same] == y[same]) ++same;
  return same;
}

TEST(PrefixDigest, PiecesDoNotMatter) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 200; ++round) {
    const std::string text = RandomText(random, random() % 5000);
    const PrefixDigest whole = Digest(text);
    PrefixDigestBuilder builder;
    for (size_t at = 0; at < text.size();) {
      const size_t piece = random() % 70;
      builder.Feed(std::string_view(text).substr(at, piece));
      at += piece;
    }
    const PrefixDigest pieces = builder.Finish();
    EXPECT_TRUE(std::ranges::equal(whole.keys(), pieces.keys())) << text.size();
    EXPECT_EQ(whole.bytes(), text.size());
    EXPECT_EQ(whole.BytesUpTo(whole.keys().size()), text.size());
  }
}

// Keys agree exactly as far as the texts do.
TEST(PrefixDigest, AgreesUpToTheFirstDifference) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 500; ++round) {
    const std::string a = RandomText(random, 1 + random() % 20'000);
    std::string b = a;
    const size_t at = random() % a.size();
    b[at] = static_cast<char>(b[at] + 1);
    const PrefixDigest x = Digest(a), y = Digest(b);
    const size_t same = CommonKeys(x, y);
    EXPECT_LE(x.BytesUpTo(same), at);
    EXPECT_GT(x.BytesUpTo(same + 1), at);
  }
}

TEST(PrefixDigest, ALongerTextSharesAllWholeBlocks) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 200; ++round) {
    const std::string a = RandomText(random, 64 + random() % 100'000);
    const PrefixDigest x = Digest(a), y = Digest(a + RandomText(random, 1 + random() % 50'000));
    const uint64_t shared = x.BytesUpTo(CommonKeys(x, y));
    EXPECT_GE(static_cast<double>(shared), 0.87 * static_cast<double>(a.size()) - 64);
  }
}

TEST(PrefixDigest, TrailingZerosAndEmptyTextsDiffer) {
  EXPECT_TRUE(Digest("").empty());
  std::set<uint64_t> keys;
  for (size_t n = 1; n < 64; ++n) keys.insert(Digest(std::string(n, '\0')).keys().back());
  EXPECT_EQ(keys.size(), 63u);
}

TEST(PrefixDigest, KeyAtDependsOnTheBeginningOnly) {
  std::mt19937_64 random(4);
  const std::string head = RandomText(random, 1024);
  const uint64_t key = Digest(head + "a").KeyAt(1024);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Digest(head + RandomText(random, 1 + random() % 3000)).KeyAt(1024), key);
  EXPECT_NE(Digest("x" + head).KeyAt(1024), key);
  EXPECT_EQ(Digest("").KeyAt(1024), 0u);
  EXPECT_EQ(Digest("short").KeyAt(1024), Digest("short").keys().back());
}

TEST(PrefixDigest, EnormousTextsAreCutAtTheLastKey) {
  PrefixDigestBuilder builder;
  const std::string piece(1 << 20, 'x');
  for (int i = 0; i < 64; ++i) builder.Feed(piece);
  const PrefixDigest digest = builder.Finish();
  EXPECT_EQ(digest.bytes(), 64u << 20);
  EXPECT_LT(digest.keys().size(), PrefixDigest::kMaxKeys);
}

// Against a model without structure: every prefix with the time of its last use.
class ModelTree {
 public:
  explicit ModelTree(uint64_t most) : most_(most) {}
  void Insert(const PrefixDigest& digest) {
    for (size_t i = digest.keys().size(); i-- > 0;) {
      const uint64_t bytes = std::max<uint64_t>(digest.BytesUpTo(i + 1) - digest.BytesUpTo(i), PrefixTree::kLeastBytes);
      used_[digest.keys()[i]] = {++clock_, bytes};
    }
    while (Bytes() > most_) {
      used_.erase(std::min_element(used_.begin(), used_.end(), [](const auto& a, const auto& b) {
        return a.second.first < b.second.first;
      }));
    }
  }
  size_t Match(const PrefixDigest& digest) const {
    size_t n = 0;
    while (n < digest.keys().size() && used_.contains(digest.keys()[n])) ++n;
    return n;
  }
  uint64_t Bytes() const {
    uint64_t sum = 0;
    for (const auto& [key, value] : used_) sum += value.second;
    return sum;
  }

 private:
  const uint64_t most_;
  uint64_t clock_ = 0;
  std::map<uint64_t, std::pair<uint64_t, uint64_t>> used_;
};

TEST(PrefixTree, AgreesWithAModelUnderEviction) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    std::mt19937_64 random(seed);
    const uint64_t most = 2000 + random() % 20'000;
    PrefixTree tree(most);
    ModelTree model(most);
    std::vector<std::string> texts;
    for (int step = 0; step < 300; ++step) {
      // New conversations, and further turns of old ones.
      std::string text;
      if (!texts.empty() && random() % 3) text = texts[random() % texts.size()];
      if (random() % 4) text += RandomText(random, random() % 800);
      texts.push_back(text);
      const PrefixDigest digest = Digest(text);
      ASSERT_EQ(tree.Match(digest.keys()), model.Match(digest)) << step;
      tree.Insert(digest);
      model.Insert(digest);
      ASSERT_EQ(tree.bytes(), model.Bytes());
      ASSERT_LE(tree.bytes(), most);
    }
  }
}

TEST(PrefixTree, MemoryIsBounded) {
  std::mt19937_64 random(7);
  PrefixTree tree(1 << 20);
  for (int i = 0; i < 20'000; ++i) tree.Insert(Digest(RandomText(random, 1 + random() % 300)));
  EXPECT_LE(tree.bytes(), 1u << 20);
  EXPECT_LE(tree.size(), (1u << 20) / PrefixTree::kLeastBytes);
  EXPECT_LE(tree.MemoryBytes(), (1u << 20) / PrefixTree::kLeastBytes * 80);
  tree.Clear();
  EXPECT_EQ(tree.MemoryBytes(), 0u);
  EXPECT_EQ(tree.Match(Digest("abc").keys()), 0u);
}

TEST(PrefixTree, APromptLargerThanTheTreeLeavesItsBeginning) {
  std::mt19937_64 random(8);
  PrefixTree tree(1000);
  const PrefixDigest digest = Digest(RandomText(random, 5000));
  tree.Insert(digest);
  const size_t kept = tree.Match(digest.keys());
  EXPECT_GT(kept, 0u);
  EXPECT_LT(kept, digest.keys().size());
  EXPECT_LE(tree.bytes(), 1000u);
}

}  // namespace
}  // namespace baton::router

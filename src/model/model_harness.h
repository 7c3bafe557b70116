// For tests: a model with its KV pool, run sequence by sequence. Not part of the library.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "common/json.h"
#include "common/mapped_file.h"
#include "model/model.h"

namespace baton::model {

class ModelHarness {
 public:
  ModelHarness(Model& model, int pages, int page_tokens, kernels::DType kv_dtype,
               uint32_t shuffle_seed = 0)
      : model_(model) {
    pool_.layout = model.MakeKvLayout(page_tokens, kv_dtype);
    pool_.pages = pages;
    memory_.resize(pages * pool_.layout.PageBytes(),
                   std::byte{0x7f});  // NaNs where nothing was written
    pool_.base = memory_.data();
    pages_.resize(pages);
    std::iota(pages_.begin(), pages_.end(), 0);
    if (shuffle_seed) std::shuffle(pages_.begin(), pages_.end(), std::mt19937(shuffle_seed));
  }

  // Appends `tokens` to the sequence in chunks of at most `chunk`; logits of all rows, or of the
  // last row of each chunk only.
  std::vector<float> Run(const std::vector<int32_t>& tokens, int chunk, bool all_rows = true) {
    std::vector<float> out;
    for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
      const int rows = static_cast<int>(std::min<size_t>(chunk, tokens.size() - begin));
      std::vector<int32_t> positions(rows), wanted(all_rows ? rows : 1);
      std::iota(positions.begin(), positions.end(), length_);
      std::iota(wanted.begin(), wanted.end(), all_rows ? 0 : rows - 1);
      const kernels::SequenceSlice slice{0, rows, length_ + rows, pages_};
      const auto logits = model_.Forward({.tokens = {tokens.data() + begin, size_t(rows)},
                                          .positions = positions,
                                          .slices = {&slice, 1},
                                          .logit_rows = wanted,
                                          .layer_done = layer_done_},
                                         pool_);
      out.insert(out.end(), logits.begin(), logits.end());
      length_ += rows;
    }
    return out;
  }

  void Rewind(int length) { length_ = length; }
  void set_layer_done(const LayerDone* done) { layer_done_ = done; }
  const kernels::KvPool& pool() const { return pool_; }
  const std::vector<PageId>& pages() const { return pages_; }

 private:
  Model& model_;
  kernels::KvPool pool_;
  std::vector<std::byte> memory_;
  std::vector<PageId> pages_;
  int length_ = 0;
  const LayerDone* layer_done_ = nullptr;
};

inline double LogProb(std::span<const float> logits, int32_t token) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - most);
  return logits[token] - most - std::log(sum);
}

inline json::object ReadJsonFile(const std::string& path) {
  const auto file = MappedFile::Open(path);
  EXPECT_TRUE(file.ok()) << file.status().message();
  if (!file.ok()) return {};
  const auto bytes = file->bytes();
  auto parsed = json::Parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  EXPECT_TRUE(parsed.ok()) << path;
  return parsed.ok() ? parsed->as_object() : json::object();
}

template <typename T>
std::vector<T> JsonVector(const json::object& object, std::string_view key) {
  return boost::json::value_to<std::vector<T>>(object.at(key));
}

}  // namespace baton::model

// A model for tests whose logits are a hash of the KV that it reads back through the page table:
// any paging mistake changes the tokens. Its KV rows hold (token, position, layer) of their token.
#pragma once

#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "model/model.h"

namespace baton::engine {

class FakeModel : public model::Model {
 public:
  static constexpr int kVocab = 61;
  static constexpr int kLayers = 3;

  explicit FakeModel(int context_length = 4096) {
    config_.architecture = "fake";
    config_.layers = kLayers;
    config_.kv_heads = 1;
    config_.heads = 1;
    config_.head_dim = 2;
    config_.vocab = kVocab;
    config_.context_length = context_length;
  }

  const model::ModelConfig& config() const override { return config_; }
  size_t weight_bytes() const override { return 0; }
  kernels::KvLayout MakeKvLayout(int page_tokens, kernels::DType) const override {
    return {.layers = kLayers, .page_tokens = page_tokens, .kv_heads = 1, .head_dim = 2,
            .dtype = kernels::DType::kF32};
  }

  std::span<const float> Forward(const model::ForwardInput& input, const kernels::KvPool& kv) override {
    if (on_forward) on_forward(input);
    for (int layer = 0; layer < kLayers; ++layer) {
      for (const kernels::SequenceSlice& slice : input.slices) Write(input, slice, kv, layer);
      if (input.layer_done != nullptr) (*input.layer_done)(layer);
    }
    logits_.clear();
    for (const int32_t row : input.logit_rows) AppendLogits(HashOf(input, row, kv));
    return logits_;
  }

  // What Forward gives behind the last of `tokens`.
  static std::vector<float> LogitsBehind(std::span<const int32_t> tokens) {
    uint64_t hash = kSeed;
    for (size_t i = 0; i < tokens.size(); ++i) {
      for (int layer = 0; layer < kLayers; ++layer) hash = Mix(hash, KeyOf(tokens[i], static_cast<int>(i), layer));
    }
    std::vector<float> logits;
    FakeModel model;
    model.AppendLogits(hash);
    return model.logits_;
  }

  // Writes what Forward would write for tokens [begin, end): a peer's transfer.
  static void WriteKv(const kernels::KvPool& kv, std::span<const int32_t> tokens, int begin, int end,
                      std::span<const PageId> pages) {
    for (int position = begin; position < end; ++position) {
      for (int layer = 0; layer < kLayers; ++layer) {
        WriteToken(kv, tokens[static_cast<size_t>(position)], position, layer, pages);
      }
    }
  }
  // Whether `pages` hold the KV of `tokens`.
  static bool HoldsKv(const kernels::KvPool& kv, std::span<const int32_t> tokens,
                      std::span<const PageId> pages) {
    for (size_t position = 0; position < tokens.size(); ++position) {
      for (int layer = 0; layer < kLayers; ++layer) {
        const int at = static_cast<int>(position);
        if (ReadToken(kv, at, layer, pages) != KeyOf(tokens[position], at, layer)) return false;
      }
    }
    return true;
  }

  std::function<void(const model::ForwardInput&)> on_forward;  // engine thread

 private:
  static constexpr uint64_t kSeed = 0x1234567;
  static uint64_t Mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9E3779B97F4A7C15ull;
    return hash ^ (hash >> 29);
  }
  static uint64_t KeyOf(int32_t token, int position, int layer) {
    return Mix(Mix(static_cast<uint64_t>(token), static_cast<uint64_t>(position)), static_cast<uint64_t>(layer));
  }

  static void WriteToken(const kernels::KvPool& kv, int32_t token, int position, int layer,
                         std::span<const PageId> pages) {
    const PageId page = pages[static_cast<size_t>(position / kv.layout.page_tokens)];
    const uint64_t key = KeyOf(token, position, layer);
    const uint64_t value = ~key;
    const size_t offset = static_cast<size_t>(position % kv.layout.page_tokens) * sizeof(key);
    std::memcpy(kv.Keys(page, layer) + offset, &key, sizeof(key));
    std::memcpy(kv.Values(page, layer) + offset, &value, sizeof(value));
  }

  // The key, or something that no token has when keys and values disagree.
  static uint64_t ReadToken(const kernels::KvPool& kv, int position, int layer,
                            std::span<const PageId> pages) {
    const PageId page = pages[static_cast<size_t>(position / kv.layout.page_tokens)];
    const size_t offset = static_cast<size_t>(position % kv.layout.page_tokens) * sizeof(uint64_t);
    uint64_t key, value;
    std::memcpy(&key, kv.Keys(page, layer) + offset, sizeof(key));
    std::memcpy(&value, kv.Values(page, layer) + offset, sizeof(value));
    return value == ~key ? key : 0xDEAD;
  }

  static void Write(const model::ForwardInput& input, const kernels::SequenceSlice& slice,
                    const kernels::KvPool& kv, int layer) {
    for (int i = 0; i < slice.q_len; ++i) {
      const size_t row = static_cast<size_t>(slice.q_begin + i);
      const int position = slice.kv_len - slice.q_len + i;
      if (input.positions[row] != position) std::abort();
      WriteToken(kv, input.tokens[row], position, layer, slice.pages);
    }
  }

  static uint64_t HashOf(const model::ForwardInput& input, int32_t row, const kernels::KvPool& kv) {
    for (const kernels::SequenceSlice& slice : input.slices) {
      if (row < slice.q_begin || row >= slice.q_begin + slice.q_len) continue;
      const int last = slice.kv_len - slice.q_len + row - slice.q_begin;
      uint64_t hash = kSeed;
      for (int position = 0; position <= last; ++position) {
        for (int layer = 0; layer < kLayers; ++layer) {
          hash = Mix(hash, ReadToken(kv, position, layer, slice.pages));
        }
      }
      return hash;
    }
    std::abort();
  }

  void AppendLogits(uint64_t hash) {
    for (int id = 0; id < kVocab; ++id) {
      const uint64_t bits = Mix(hash, static_cast<uint64_t>(id) + 77);
      logits_.push_back(static_cast<float>(bits >> 40) * (8.0f / (1 << 24)) - 4.0f);
    }
  }

  model::ModelConfig config_;
  std::vector<float> logits_;
};

}  // namespace baton::engine

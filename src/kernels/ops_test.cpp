// Every operation of every backend against the reference, over formats and odd shapes.
#include "kernels/ops.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>

#include "kernels/test_data.h"

namespace baton::kernels {
namespace {

struct Backend {
  const char* isa;
  int threads;
};

std::string NameOf(const testing::TestParamInfo<Backend>& info) {
  std::string name = info.param.isa;
  std::erase(name, '-');
  return name + "_" + std::to_string(info.param.threads);
}

// The greatest |a - b| over the greatest |b|.
double RelativeError(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0, largest = 1e-30;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!(std::abs(a[i]) < 1e30f)) return 1e30;
    worst = std::max(worst, std::abs(double{a[i]} - b[i]));
    largest = std::max(largest, std::abs(double{b[i]}));
  }
  return worst / largest;
}

class CpuOpsTest : public testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    auto ops = MakeCpuOps({GetParam().threads, GetParam().isa});
    if (!ops.ok()) GTEST_SKIP() << ops.status().message();
    ops_ = std::move(ops).value();
    reference_ = MakeReferenceOps();
  }
  WeightPtr Load(Ops& ops, std::span<const StoredTensor> parts) {
    auto weight = ops.LoadWeight(parts, WeightUse::kTied);
    EXPECT_TRUE(weight.ok()) << weight.status().message();
    return std::move(weight).value();
  }
  WeightPtr LoadVector(Ops& ops, const RandomTensor& values) {
    auto weight = ops.LoadVector({DType::kF32, 1, values.tensor.cols,
                                  reinterpret_cast<const std::byte*>(values.values.data())});
    EXPECT_TRUE(weight.ok()) << weight.status().message();
    return std::move(weight).value();
  }
  void CompareLinear(std::span<const StoredTensor> parts, int tokens, bool with_bias, bool add);

  std::unique_ptr<Ops> ops_;
  std::unique_ptr<Ops> reference_;
};

INSTANTIATE_TEST_SUITE_P(All, CpuOpsTest,
                         testing::Values(Backend{"avx2", 1}, Backend{"avx2", 3},
                                         Backend{"avx512", 2}, Backend{"avx512-vnni", 1},
                                         Backend{"avx512-vnni", 3}),
                         NameOf);

constexpr DType kAllFormats[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kF8E4M3,
                                 DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                 DType::kQ8_0, DType::kQ4_K, DType::kQ6_K};

// The most that y[r] of one token may be off: half a step of the 16-bit activations of each block
// times the weights (quantised weights only), and float32 rounding of the sum.
double AllowedError(std::span<const float> weights, bool quantised, const float* x) {
  double steps = 0, magnitude = 0;
  for (size_t block = 0; block < weights.size(); block += 32) {
    double largest = 0, sum = 0;
    for (size_t c = block; c < std::min(block + 32, weights.size()); ++c) {
      largest = std::max(largest, std::abs(double{x[c]}));
      sum += std::abs(weights[c]);
      magnitude += std::abs(double{weights[c]} * x[c]);
    }
    steps += sum * largest * 0.5 / 32512;
  }
  return (quantised ? 1.001 * steps : 0) + 2e-6 * magnitude;
}

void CpuOpsTest::CompareLinear(std::span<const StoredTensor> parts, int tokens, bool with_bias,
                               bool add) {
  const WeightPtr weight = Load(*ops_, parts);
  const WeightPtr expected_weight = Load(*reference_, parts);
  const int rows = static_cast<int>(weight->rows), cols = static_cast<int>(weight->cols);
  ASSERT_EQ(weight->rows, expected_weight->rows);
  RandomTensor x(tokens, cols, 1), bias(1, rows, 2), y(tokens, rows, 3), expected(tokens, rows, 3);
  const WeightPtr b = LoadVector(*ops_, bias), expected_b = LoadVector(*reference_, bias);
  ops_->Linear(x.tensor, *weight, with_bias ? b.get() : nullptr, add, y.tensor);
  reference_->Linear(x.tensor, *expected_weight, with_bias ? expected_b.get() : nullptr, add,
                     expected.tensor);
  std::vector<float> w(cols);
  int r = 0;
  for (const StoredTensor& part : parts) {
    for (int64_t i = 0; i < part.rows; ++i, ++r) {
      DequantizeRows(part, i, 1, w.data());
      const bool quantised = InfoOf(part.dtype).block_elements > 1;
      for (int t = 0; t < tokens; t += 1 + tokens / 64) {
        const double want = expected.tensor.Row(t)[r];
        ASSERT_NEAR(y.tensor.Row(t)[r], want,
                    AllowedError(w, quantised, x.tensor.Row(t)) + 3e-6 * (std::abs(want) + 20))
            << InfoOf(part.dtype).name << " [" << rows << ", " << cols << "] row " << r << " token "
            << t << " of " << tokens;
      }
    }
  }
}

TEST_P(CpuOpsTest, LinearOfEveryFormatAndShape) {
  for (DType dtype : kAllFormats) {
    const int step = InfoOf(dtype).block_elements;
    for (int rows : {1, 16, 33, 70}) {
      for (int cols : {step, 3 * step, step == 1 ? 130 : 5 * step}) {
        for (int tokens : {1, 2, 5, 12, 23}) {
          const RandomWeight weight(dtype, rows, cols, 17 * rows + cols);
          CompareLinear({&weight.stored, 1}, tokens, tokens % 2 == 0, tokens % 3 == 0);
        }
      }
    }
  }
}

TEST_P(CpuOpsTest, LinearOfWideModel) {
  for (DType dtype : {DType::kQ4_1, DType::kQ8_0, DType::kBF16, DType::kQ6_K}) {
    const RandomWeight weight(dtype, 17, 1536, 5);
    CompareLinear({&weight.stored, 1}, 370, false, true);
  }
}

TEST_P(CpuOpsTest, LinearOfStackedPartsOfDifferentFormats) {
  const RandomWeight q(DType::kQ4_K, 40, 512, 1), k(DType::kQ4_K, 24, 512, 2),
      v(DType::kQ6_K, 25, 512, 3), dense(DType::kBF16, 9, 512, 4);
  const StoredTensor parts[] = {q.stored, k.stored, v.stored, dense.stored};
  for (int tokens : {1, 4, 40}) CompareLinear(parts, tokens, true, true);
}

TEST_P(CpuOpsTest, LinearOfExtremeActivations) {
  const RandomWeight weight(DType::kQ4_1, 32, 64, 5);
  const WeightPtr packed = Load(*ops_, {&weight.stored, 1});
  const WeightPtr expected_weight = Load(*reference_, {&weight.stored, 1});
  ZeroTensor x(4, 64), y(4, 32), expected(4, 32);
  std::fill(y.values.begin(), y.values.end(), 7.0f);
  for (int c = 0; c < 64; ++c) {
    x.tensor.Row(1)[c] = c % 2 ? 1e30f : -1e30f;
    x.tensor.Row(2)[c] = 1e-25f * static_cast<float>(c);
  }
  x.tensor.Row(3)[63] = -3.0f;
  ops_->Linear(x.tensor, *packed, nullptr, false, y.tensor);
  reference_->Linear(x.tensor, *expected_weight, nullptr, false, expected.tensor);
  for (int t = 0; t < 4; ++t) {
    const std::vector<float> a(y.tensor.Row(t), y.tensor.Row(t) + 32);
    const std::vector<float> b(expected.tensor.Row(t), expected.tensor.Row(t) + 32);
    EXPECT_LE(RelativeError(a, b), 1e-4) << t;
  }
  for (int r = 0; r < 32; ++r) EXPECT_EQ(y.tensor.Row(0)[r], 0.0f);
}

// A packed row read back is the dequantised row to the bit: nothing was rounded on the way.
TEST_P(CpuOpsTest, EmbedEqualsReferenceToTheBit) {
  for (DType dtype : kAllFormats) {
    const int cols = InfoOf(dtype).block_elements > 1 ? 512 : 77;
    const RandomWeight a(dtype, 19, cols, 1), b(dtype, 20, cols, 2);
    const StoredTensor parts[] = {a.stored, b.stored};
    const WeightPtr weight = Load(*ops_, parts), expected_weight = Load(*reference_, parts);
    std::vector<int32_t> tokens(39);
    std::iota(tokens.rbegin(), tokens.rend(), 0);
    for (float scale : {1.0f, 25.25f}) {
      ZeroTensor out(39, cols), expected(39, cols);
      ops_->Embed(*weight, tokens, scale, out.tensor);
      reference_->Embed(*expected_weight, tokens, scale, expected.tensor);
      EXPECT_EQ(out.values, expected.values) << InfoOf(dtype).name;
    }
  }
}

TEST_P(CpuOpsTest, RmsNorm) {
  for (int width : {1, 5, 16, 64, 576, 1000}) {
    for (int heads : {1, 3}) {
      for (int rows : {1, 4, 37}) {
        RandomTensor x(rows, width * heads, 1), weight(1, width, 2);
        ZeroTensor out(rows, width * heads), expected(rows, width * heads);
        const WeightPtr w = LoadVector(*ops_, weight), ew = LoadVector(*reference_, weight);
        ops_->RmsNorm(x.tensor, *w, 1e-5f, out.tensor);
        reference_->RmsNorm(x.tensor, *ew, 1e-5f, expected.tensor);
        EXPECT_LE(RelativeError(out.values, expected.values), 2e-6) << width;
        ops_->RmsNorm(x.tensor, *w, 1e-5f, x.tensor);  // in place
        EXPECT_EQ(x.values, out.values);
      }
    }
  }
}

TEST_P(CpuOpsTest, GatedProducts) {
  for (int n : {1, 15, 16, 100, 1536}) {
    for (int rows : {1, 9, 33}) {
      RandomTensor x(rows, 2 * n, n);
      x.values[0] = -200.0f, x.values[n / 2] = 90.0f;  // beyond the range of exp in float32
      ZeroTensor out(rows, n), expected(rows, n);
      ops_->SiluMul(x.tensor, out.tensor);
      reference_->SiluMul(x.tensor, expected.tensor);
      for (size_t i = 0; i < out.values.size(); ++i)
        EXPECT_NEAR(out.values[i], expected.values[i], 2e-6 * std::abs(expected.values[i]) + 1e-30);
      ops_->GeluTanhMul(x.tensor, out.tensor);
      reference_->GeluTanhMul(x.tensor, expected.tensor);
      for (size_t i = 0; i < out.values.size(); ++i)
        EXPECT_NEAR(out.values[i], expected.values[i], 2e-5 * std::abs(expected.values[i]) + 1e-9);
    }
  }
}

TEST_P(CpuOpsTest, RopeBothPairings) {
  const int head_dim = 24, heads = 5, kv_heads = 2;
  for (int rows : {1, 3, 200}) {
    for (int rotary : {24, 10, 0}) {
      std::vector<int32_t> positions(rows);
      for (int t = 0; t < rows; ++t) positions[t] = 131 * t;
      std::vector<float> inv_freq(rotary / 2), table(rows * rotary), expected_table(rows * rotary);
      for (int i = 0; i < rotary / 2; ++i) inv_freq[i] = std::pow(1e5f, -2.0f * i / rotary);
      ops_->RopeTable(positions, inv_freq, 1.25f, table.data());
      reference_->RopeTable(positions, inv_freq, 1.25f, expected_table.data());
      EXPECT_EQ(table, expected_table);
      for (bool interleaved : {false, true}) {
        RandomTensor q(rows, heads * head_dim, 1), k(rows, kv_heads * head_dim, 2);
        RandomTensor eq(rows, heads * head_dim, 1), ek(rows, kv_heads * head_dim, 2);
        ops_->Rope({q.tensor, k.tensor, table.data(), head_dim, rotary, interleaved});
        reference_->Rope({eq.tensor, ek.tensor, table.data(), head_dim, rotary, interleaved});
        EXPECT_LE(RelativeError(q.values, eq.values), 1e-6);
        EXPECT_LE(RelativeError(k.values, ek.values), 1e-6);
      }
    }
  }
}

struct AttentionShape {
  int heads, kv_heads, head_dim, page_tokens, window;
  DType dtype;
};

// Three sequences of different lengths and chunk lengths in one step, pages out of order.
TEST_P(CpuOpsTest, AppendAndAttention) {
  const AttentionShape shapes[] = {
      {9, 3, 64, 16, 0, DType::kF16},     {4, 4, 16, 1, 0, DType::kF32},
      {4, 1, 80, 24, 0, DType::kBF16},    {2, 1, 7, 5, 0, DType::kF16},
      {8, 2, 128, 64, 100, DType::kBF16}, {4, 2, 32, 16, 1, DType::kF16},
      {6, 2, 64, 16, 700, DType::kF32},
  };
  for (const AttentionShape& shape : shapes) {
    const KvLayout layout{2, shape.page_tokens, shape.kv_heads, shape.head_dim, shape.dtype};
    const int lengths[] = {1, 75, 1100}, new_tokens[] = {1, 75, 3};
    std::vector<std::vector<PageId>> pages(3);
    int next = 0;
    for (int i = 0; i < 3; ++i)
      for (int n = 0; n * shape.page_tokens < lengths[i]; ++n) pages[i].push_back(next++);
    for (auto& list : pages)
      for (PageId& page : list) page = next - 1 - page;

    OwnedPool pool(layout, next), expected_pool(layout, next);
    const int width = shape.kv_heads * shape.head_dim;
    // All but the new tokens of the long sequence first.
    const SequenceSlice history[] = {{0, 1097, 1097, pages[2]}};
    RandomTensor old_k(1097, width, 1), old_v(1097, width, 2);
    SequenceSlice slices[3];
    int rows = 0;
    for (int i = 0; i < 3; ++i) {
      slices[i] = {rows, new_tokens[i], lengths[i], pages[i]};
      rows += new_tokens[i];
    }
    RandomTensor q(rows, shape.heads * shape.head_dim, 3), k(rows, width, 4), v(rows, width, 5);
    ZeroTensor out(rows, q.tensor.cols), expected(rows, q.tensor.cols);
    const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
    const auto run = [&](Ops& ops, const KvPool& kv, const Tensor& result) {
      ops.AppendKv(old_k.tensor, old_v.tensor, history, kv, 1);
      ops.AppendKv(k.tensor, v.tensor, slices, kv, 1);
      ops.Attention({q.tensor, result, slices, &kv, 1, shape.heads, scale, shape.window});
    };
    run(*ops_, pool.pool, out.tensor);
    run(*reference_, expected_pool.pool, expected.tensor);
    EXPECT_EQ(pool.memory, expected_pool.memory) << layout.ToString();
    EXPECT_LE(RelativeError(out.values, expected.values), 5e-6) << layout.ToString();
  }
}

TEST_P(CpuOpsTest, MovesRowsAndColumns) {
  for (int rows : {1, 6, 900}) {
    RandomTensor x(rows, 37, 1);
    std::vector<int32_t> wanted;
    for (int i = rows - 1; i >= 0; i -= 2) wanted.push_back(i);
    const int n = static_cast<int>(wanted.size());
    ZeroTensor out(n, 37), expected(n, 37);
    ops_->GatherRows(x.tensor, wanted, out.tensor);
    reference_->GatherRows(x.tensor, wanted, expected.tensor);
    EXPECT_EQ(out.values, expected.values);
    EXPECT_EQ(out.values[0], x.tensor.Row(rows - 1)[0]);

    ZeroTensor a(rows, 20), b(rows, 1), c(rows, 16);
    const Tensor parts[] = {a.tensor, b.tensor, c.tensor};
    ops_->SplitColumns(x.tensor, parts);
    for (int t = 0; t < rows; ++t) {
      EXPECT_EQ(a.tensor.Row(t)[19], x.tensor.Row(t)[19]);
      EXPECT_EQ(b.tensor.Row(t)[0], x.tensor.Row(t)[20]);
      EXPECT_EQ(c.tensor.Row(t)[15], x.tensor.Row(t)[36]);
    }
  }
}

TEST_P(CpuOpsTest, BuffersAreZeroedAndAligned) {
  for (size_t bytes : {size_t{1}, size_t{100}, size_t{5} << 20}) {
    auto buffer = ops_->Allocate(bytes);
    ASSERT_TRUE(buffer.ok());
    const MemorySpan span = (*buffer)->span();
    EXPECT_EQ(span.size_bytes, bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(span.data) % 64, 0u);
    EXPECT_EQ(std::count(span.data, span.data + bytes, std::byte{0}), static_cast<int64_t>(bytes));
  }
  EXPECT_EQ(ops_->Allocate(size_t{1} << 60).status().code(), Code::kResourceExhausted);
}

TEST_P(CpuOpsTest, RefusesWeightsThatCannotBe) {
  const RandomWeight good(DType::kQ4_0, 4, 64, 1), narrow(DType::kQ4_0, 4, 32, 1);
  StoredTensor broken = good.stored;
  broken.cols = 48;
  const StoredTensor two[] = {good.stored, narrow.stored};
  const auto code = [&](std::span<const StoredTensor> parts) {
    return ops_->LoadWeight(parts, WeightUse::kLinear).status().code();
  };
  EXPECT_EQ(code({}), Code::kInvalidArgument);
  EXPECT_EQ(code({&broken, 1}), Code::kInvalidArgument);
  EXPECT_EQ(code(two), Code::kInvalidArgument);
  broken = good.stored, broken.data = nullptr;
  EXPECT_EQ(code({&broken, 1}), Code::kInvalidArgument);
  EXPECT_EQ(ops_->LoadVector(good.stored).status().code(), Code::kInvalidArgument);
}

TEST(MakeCpuOpsTest, ForcingAnInstructionSet) {
  EXPECT_EQ(MakeCpuOps({1, "sse9"}).status().code(), Code::kInvalidArgument);
  EXPECT_THAT(MakeCpuOps({1, "sse9"}).status().message(), testing::HasSubstr("avx512-vnni"));
  EXPECT_EQ(MakeCpuOps({-1, ""}).status().code(), Code::kInvalidArgument);
  auto best = MakeCpuOps({});
  if (!best.ok()) GTEST_SKIP() << best.status().message();
  EXPECT_GE((*best)->info().threads, 1);
  setenv("BATON_ISA", "avx2", 1);
  auto forced = MakeCpuOps({2, ""});
  unsetenv("BATON_ISA");
  ASSERT_TRUE(forced.ok());
  EXPECT_EQ((*forced)->info().isa, "avx2");
  EXPECT_EQ((*forced)->info().threads, 2);
}

TEST(OpsDeathTest, WrongShapesDieWithTheirNumbers) {
  auto ops = MakeReferenceOps();
  const RandomWeight weight(DType::kF32, 4, 8, 1);
  auto loaded = ops->LoadWeight({&weight.stored, 1}, WeightUse::kLinear);
  ASSERT_TRUE(loaded.ok());
  const WeightPtr w = std::move(loaded).value();
  ZeroTensor x(2, 7), y(2, 4);
  EXPECT_DEATH(ops->Linear(x.tensor, *w, nullptr, false, y.tensor), "2, 7");
  const int32_t token = 4;
  ZeroTensor out(1, 8);
  EXPECT_DEATH(ops->Embed(*w, {&token, 1}, 1, out.tensor), "token 4 of 4");
}

TEST(MeasureCpuCeiling, FindsSomething) {
  if (!MakeCpuOps({1, ""}).ok()) GTEST_SKIP() << "no AVX2";
  const CpuCeiling ceiling = MeasureCpuCeiling(2, 0.02);
  EXPECT_GT(ceiling.read_bytes_per_s, 1e8);
  EXPECT_GT(ceiling.int8_ops_per_s, 1e9);
}

}  // namespace
}  // namespace baton::kernels

// The GGUF parser: what good files give back, and that every hostile file is refused with the
// place and the reason.
#include "model/gguf.h"

#include <gmock/gmock.h>

#include <random>

#include "model/test_files.h"

namespace baton::model {
namespace {

using testing::HasSubstr;

GgufWriter Small() {
  GgufWriter writer;
  writer.String("general.architecture", "llama").U32("general.file_type", 3);
  writer.Tensor("a", {4, 2}, 0, std::string(32, '\1')).Tensor("b", {32}, 3, std::string(20, '\2'));
  return writer;
}

TEST(Gguf, ReadsWhatWasWritten) {
  const std::string bytes = Small().Build();
  const auto file = GgufFile::Parse(AsBytes(bytes));
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->version(), 3u);
  EXPECT_EQ(*file->GetString("general.architecture"), "llama");
  EXPECT_EQ(*file->GetUint("general.file_type"), 3u);
  const auto a = file->Tensor("a");
  ASSERT_TRUE(a.ok());
  EXPECT_EQ(a->dtype, kernels::DType::kF32);
  EXPECT_EQ(a->rows, 2);
  EXPECT_EQ(a->cols, 4);
  EXPECT_EQ(a->data, AsBytes(bytes).data() + file->tensors().at("a").offset);
  const auto b = file->Tensor("b");
  ASSERT_TRUE(b.ok());
  EXPECT_EQ(b->dtype, kernels::DType::kQ4_1);
  EXPECT_EQ(b->rows, 1);
  EXPECT_EQ(*b->data, std::byte{2});
}

TEST(Gguf, TypedReadsNameKeyAndKind) {
  GgufWriter writer;
  writer.Entry("i8", 1, Raw(int8_t{-3}))
      .Entry("u64", 10, Raw(~uint64_t{0}))
      .Entry("flag", 7, Raw(true));
  writer.Entry("f64", 12, Raw(2.5)).Strings("words", {"a", ""});
  writer.Entry("ints", 9, Raw(uint32_t{5}, uint64_t{2}, int32_t{-1}, int32_t{7}));
  writer.Entry("floats", 9, Raw(uint32_t{6}, uint64_t{1}, 0.5f));
  const std::string bytes = writer.Build();
  const auto file = GgufFile::Parse(AsBytes(bytes));
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->GetUint("i8").status().message(),
            "GGUF key 'i8' is an integer, not an unsigned integer");
  EXPECT_EQ(*file->GetUint("u64"), ~uint64_t{0});
  EXPECT_EQ(*file->GetBool("flag"), true);
  EXPECT_EQ(*file->GetDouble("f64"), 2.5);
  EXPECT_EQ(*file->GetDouble("i8"), -3);
  EXPECT_EQ(*file->GetStrings("words"), (std::vector<std::string>{"a", ""}));
  EXPECT_EQ(*file->GetInts("ints"), (std::vector<int64_t>{-1, 7}));
  EXPECT_EQ(*file->GetDoubles("floats"), std::vector<double>{0.5});
  EXPECT_EQ(*file->GetDoubles("ints"), (std::vector<double>{-1, 7}));
  EXPECT_EQ(file->GetStrings("ints").status().message(),
            "GGUF key 'ints' is an array of i32, not of strings");
  EXPECT_EQ(file->GetInts("floats").status().code(), Code::kInvalidArgument);
  EXPECT_EQ(file->GetInts("flag").status().message(),
            "GGUF key 'flag' is a boolean, not an array of integers");
  EXPECT_EQ(file->GetString("none").status().code(), Code::kNotFound);
  EXPECT_EQ(file->Tensor("none").status().code(), Code::kNotFound);
}

TEST(Gguf, TypesThatNoKernelReadsOpenAndNameThemselves) {
  GgufWriter writer;
  writer.Tensor("x", {256}, 10, std::string(84, '\0'));
  const std::string bytes = writer.Build();
  const auto file = GgufFile::Parse(AsBytes(bytes));
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->Tensor("x").status().code(), Code::kUnsupported);
  EXPECT_THAT(file->Tensor("x").status().message(), HasSubstr("tensor 'x' is Q2_K"));
}

TEST(Gguf, HugeStringArraysCostNothingUntilRead) {
  std::vector<std::string> tokens(300'000);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = "token" + std::to_string(i);
  GgufWriter writer;
  writer.Strings("tokenizer.ggml.tokens", tokens);
  const std::string bytes = writer.Build();
  const auto file = GgufFile::Parse(AsBytes(bytes));
  ASSERT_TRUE(file.ok());
  const GgufArray* array = file->FindArray("tokenizer.ggml.tokens");
  ASSERT_NE(array, nullptr);
  EXPECT_EQ(array->count, tokens.size());
  EXPECT_GE(array->bytes.data(), AsBytes(bytes).data());  // borrowed, not copied
  EXPECT_EQ(*file->GetStrings("tokenizer.ggml.tokens"), tokens);
}

struct Hostile {
  std::string name;
  std::string bytes;
  std::string message;  // must be contained
};

std::string WithEntry(uint32_t type, const std::string& value) {
  GgufWriter writer;
  writer.Entry("key", type, value);
  return writer.Build();
}
// The value of the one entry begins at byte 24 + (8 + 3) + 4 = 39.

std::string WithInfo(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                     uint64_t offset, size_t data = 64) {
  GgufWriter writer;
  writer.data.assign(data, '\0');
  writer.TensorInfo(name, dims, type, offset);
  return writer.Build();
}
// The info begins at byte 24; a name of n bytes puts the dimension count at 32 + n.

template <typename Change>
std::string Changed(Change change) {
  GgufWriter writer = Small();
  change(writer);
  return writer.Build();
}

constexpr uint64_t kHuge = uint64_t{1} << 62;

std::vector<Hostile> HostileFiles() {
  const std::string good = Small().Build();
  std::vector<Hostile> out = {
      {"empty", "", "byte 0: file ends inside magic"},
      {"three_bytes", "GGU", "byte 0: file ends inside magic"},
      {"other_format", std::string(64, 'x'), "byte 0: not a GGUF file"},
      {"magic_only", "GGUF", "byte 4: file ends inside version"},
      {"version_0", Changed([](auto& w) { w.version = 0; }), "byte 4: GGUF version 0"},
      {"version_1", Changed([](auto& w) { w.version = 1; }), "byte 4: GGUF version 1"},
      {"version_4", Changed([](auto& w) { w.version = 4; }), "byte 4: GGUF version 4"},
      {"big_endian", Changed([](auto& w) { w.version = 0x03000000; }), "big-endian"},
      {"no_counts", good.substr(0, 12), "byte 8: file ends inside tensor count"},
      {"tensor_count_huge", Changed([](auto& w) { w.tensor_count = kHuge; }),
       "byte 8: tensor count is"},
      {"entry_count_huge", Changed([](auto& w) { w.entry_count = ~uint64_t{0}; }),
       "byte 16: metadata count is"},
      {"tensor_count_too_large", Changed([](auto& w) { w.tensor_count = 3; }), "byte "},
      {"entry_count_too_large", Changed([](auto& w) { w.entry_count = 3; }), "byte "},
      {"key_length_huge",
       Raw(0x46554747u, 3u, uint64_t{0}, uint64_t{1}, kHuge) + std::string(32, 'k'),
       "byte 24: metadata key claims 4611686018427387904 bytes, 32 are left"},
      {"key_length_wraps",
       Raw(0x46554747u, 3u, uint64_t{0}, uint64_t{1}, ~uint64_t{0}) + std::string(32, 'k'),
       "byte 24: metadata key claims"},
      {"key_empty", Changed([](auto& w) { w.Entry("", 4, Raw(1u)); }), "has 0 bytes"},
      {"key_twice", Changed([](auto& w) { w.U32("general.file_type", 4); }),
       "'general.file_type' appears twice"},
      {"key_over_64k", Changed([](auto& w) { w.U32(std::string(65536, 'k'), 4); }),
       "has 65536 bytes"},
      {"value_type_unknown", WithEntry(13, Raw(uint64_t{0})), "byte 39: unknown value type 13"},
      {"value_type_huge", WithEntry(~0u, Raw(uint64_t{0})),
       "byte 39: unknown value type 4294967295"},
      {"bool_2", WithEntry(7, Raw(uint8_t{2})), "byte 39: bool is 2"},
      {"string_too_long", WithEntry(8, Raw(uint64_t{9}) + "12345678"),
       "byte 39: string claims 9 bytes, 8 are left"},
      {"u64_cut", WithEntry(10, Raw(uint32_t{9})),
       "byte 39: file ends inside u64 (8 bytes needed, 4 left)"},
      {"array_type_unknown", WithEntry(9, Raw(13u, uint64_t{1}, uint64_t{0})),
       "byte 39: unknown array element type 13"},
      {"array_too_long", WithEntry(9, Raw(4u, uint64_t{3}, uint64_t{0})),
       "byte 43: array length is 3"},
      {"array_length_wraps", WithEntry(9, Raw(10u, uint64_t{1} << 61, uint64_t{0})),
       "byte 43: array length is"},
      {"array_of_strings_huge", WithEntry(9, Raw(8u, kHuge, uint64_t{0})),
       "byte 43: array length is"},
      {"array_of_strings_cut",
       WithEntry(9, Raw(8u, uint64_t{2}, uint64_t{1}) + std::string(15, 'a')),
       "byte 60: string in an array claims"},
      {"array_of_bools_bad", WithEntry(9, Raw(7u, uint64_t{2}, uint8_t{1}, uint8_t{3})),
       "byte 52: bool is 3"},
      {"array_of_arrays_cut", WithEntry(9, Raw(9u, uint64_t{1}, 9u, uint64_t{9})),
       "array length is 9"},
      {"alignment_0", Changed([](auto& w) { w.U32("general.alignment", 0); }),
       "general.alignment is 0"},
      {"alignment_odd", Changed([](auto& w) { w.U32("general.alignment", 48); }),
       "general.alignment is 48"},
      {"alignment_huge", Changed([](auto& w) { w.U32("general.alignment", 1u << 31); }),
       "general.alignment is"},
      {"alignment_no_number", Changed([](auto& w) { w.String("general.alignment", "32"); }),
       "no unsigned integer"},
      {"tensor_name_empty", WithInfo("", {4}, 0, 0), "byte 24: name of tensor 0 has 0 bytes"},
      {"tensor_name_long", WithInfo(std::string(128, 'n'), {4}, 0, 0),
       "byte 24: name of tensor 0 has 128 bytes"},
      {"tensor_name_cut",
       Raw(0x46554747u, 3u, uint64_t{1}, uint64_t{0}, uint64_t{99}) + std::string(40, 'n'),
       "byte 24: tensor name claims 99 bytes"},
      {"dims_0", WithInfo("t", {}, 0, 0), "byte 33: tensor 't' has 0 dimensions"},
      {"dims_5", WithInfo("t", {1, 1, 1, 1, 1}, 0, 0), "byte 33: tensor 't' has 5 dimensions"},
      {"dim_zero", WithInfo("t", {4, 0}, 0, 0), "byte 45: tensor 't' has a dimension of 0"},
      {"dims_overflow", WithInfo("t", {uint64_t{1} << 32, uint64_t{1} << 32}, 0, 0),
       "byte 45: tensor 't'"},
      {"dims_overflow_to_small", WithInfo("t", {1, uint64_t{1} << 63, 2}, 0, 0),
       "byte 45: tensor 't'"},
      {"type_unknown", WithInfo("t", {4}, 99, 0), "byte 45: tensor 't' has unknown type 99"},
      {"type_removed_q4_2", WithInfo("t", {32}, 4, 0), "byte 45: tensor 't' has unknown type 4"},
      {"type_removed_q4_0_4_4", WithInfo("t", {32}, 31, 0),
       "byte 45: tensor 't' has unknown type 31"},
      {"partial_block", WithInfo("t", {33}, 3, 0),
       "byte 45: tensor 't' has rows of 33 values, Q4_1"},
      {"partial_block_k", WithInfo("t", {128, 2}, 12, 0), "rows of 128 values, Q4_K"},
      {"offset_unaligned", WithInfo("t", {4}, 0, 16), "byte 49: offset 16 of tensor 't'"},
      {"offset_outside", WithInfo("t", {4}, 0, 64), "tensor 't' needs 16 bytes at data offset 64"},
      {"offset_wraps", WithInfo("t", {4}, 0, ~uint64_t{31}),
       "tensor 't' needs 16 bytes at data offset"},
      {"size_outside", WithInfo("t", {17}, 0, 0),
       "needs 68 bytes at data offset 0, but the file has 64"},
      {"no_data_at_all", WithInfo("t", {4}, 0, 0, 0), "but the file has 0 bytes of data"},
      {"data_cut", good.substr(0, good.size() - 1), "tensor 'b' needs 20 bytes"},
      {"tensor_twice", Changed([](auto& w) { w.TensorInfo("a", {4}, 0, 0); }),
       "tensor 'a' appears twice"},
      {"tensors_overlap", Changed([](auto& w) { w.TensorInfo("c", {4}, 0, 0); }), "overlap"},
      {"name_with_control_bytes", Changed([](auto& w) { w.TensorInfo("\n\xff", {4}, 99, 0); }),
       "'\\x0a\\xff'"},
  };
  std::string nested = Raw(9u, uint64_t{1});
  for (int i = 0; i < 100'000; ++i) nested += Raw(9u, uint64_t{1});
  out.push_back({"arrays_nested_deep", WithEntry(9, nested), "arrays nest deeper"});
  return out;
}

class HostileGguf : public testing::TestWithParam<Hostile> {};

TEST_P(HostileGguf, IsRefusedWithPlaceAndReason) {
  // On the heap and of exact size, so that a sanitizer sees any read past the end.
  const std::vector<char> bytes(GetParam().bytes.begin(), GetParam().bytes.end());
  const auto file = GgufFile::Parse(std::as_bytes(std::span(bytes)));
  ASSERT_FALSE(file.ok());
  EXPECT_THAT(file.status().message(), HasSubstr(GetParam().message));
  EXPECT_THAT(file.status().message(), HasSubstr("byte "));
  EXPECT_TRUE(file.status().code() == Code::kDataCorrupt ||
              file.status().code() == Code::kUnsupported);
}

INSTANTIATE_TEST_SUITE_P(Table, HostileGguf, testing::ValuesIn(HostileFiles()),
                         [](const auto& info) { return info.param.name; });

TEST(Gguf, EveryCutIsRefused) {
  const std::string good = Small().Build();
  for (size_t size = 0; size < good.size(); ++size) {
    const std::vector<char> bytes(good.begin(), good.begin() + size);
    EXPECT_FALSE(GgufFile::Parse(std::as_bytes(std::span(bytes))).ok()) << size;
  }
}

TEST(Gguf, ChangedBytesAreReadOrRefusedButNeverBeyondTheFile) {
  const std::string good = Small().Build();
  for (size_t at = 0; at < good.size(); ++at) {
    for (const char value : {'\0', '\1', '\x7f', '\x80', '\xff'}) {
      std::vector<char> bytes(good.begin(), good.end());
      bytes[at] = value;
      const auto span = std::as_bytes(std::span(bytes));
      const auto file = GgufFile::Parse(span);
      if (!file.ok()) continue;
      for (const auto& [name, tensor] : file->tensors()) {
        EXPECT_LE(tensor.offset, bytes.size());
        EXPECT_LE(tensor.bytes, bytes.size() - tensor.offset);
      }
    }
  }
}

// ---- Random valid files ------------------------------------------------------------------------

struct RandomFile {
  std::mt19937_64 random;
  GgufWriter writer;
  std::map<std::string, GgufValue> scalars;
  std::map<std::string, std::vector<std::string>> strings;
  std::map<std::string, std::vector<int64_t>> ints;
  struct Expected {
    std::vector<uint64_t> dims;
    uint32_t type;
    std::string bytes;
  };
  std::map<std::string, Expected> tensors;

  uint64_t Below(uint64_t n) { return random() % n; }
  std::string Text(size_t most) {
    std::string out(Below(most + 1), '\0');
    for (char& c : out) c = static_cast<char>(Below(256));
    return out;
  }
  void AddScalar(const std::string& key) {
    switch (Below(6)) {
      case 0: {
        const auto v = static_cast<uint16_t>(random());
        writer.Entry(key, 2, Raw(v));
        scalars[key] = uint64_t{v};
        break;
      }
      case 1: {
        const auto v = static_cast<int8_t>(random());
        writer.Entry(key, 1, Raw(v));
        scalars[key] = int64_t{v};
        break;
      }
      case 2: {
        const auto v = random();
        writer.Entry(key, 10, Raw(v));
        scalars[key] = v;
        break;
      }
      case 3: {
        const auto v = static_cast<float>(Below(1000)) / 8;
        writer.F32(key, v);
        scalars[key] = double{v};
        break;
      }
      case 4: {
        const bool v = Below(2);
        writer.Entry(key, 7, Raw(v));
        scalars[key] = v;
        break;
      }
      case 5: {
        const auto v = Text(40);
        writer.String(key, v);
        scalars[key] = v;
        break;
      }
    }
  }
  void AddArray(const std::string& key) {
    if (Below(2)) {
      for (uint64_t n = Below(20); n > 0; --n) strings[key].push_back(Text(10));
      writer.Strings(key, strings[key]);
      return;
    }
    std::string out = Raw(uint32_t{3}, uint64_t{0});
    for (uint64_t n = Below(20); n > 0; --n) ints[key].push_back(static_cast<int16_t>(random()));
    out = Raw(uint32_t{3}, uint64_t{ints[key].size()});
    for (const int64_t v : ints[key]) out += Raw(static_cast<int16_t>(v));
    writer.Entry(key, 9, out);
  }
  void AddTensor(const std::string& name) {
    constexpr uint32_t kIds[] = {0, 1, 2, 3, 6, 7, 8, 12, 14, 30, 10, 28};
    const GgufTypeInfo& type = *FindGgufType(kIds[Below(std::size(kIds))]);
    Expected e{{(1 + Below(3)) * type.block_elements}, type.id, ""};
    uint64_t blocks = e.dims[0] / type.block_elements;
    for (uint64_t n = Below(4); n > 0; --n) blocks *= e.dims.emplace_back(1 + Below(4));
    e.bytes.resize(blocks * type.block_bytes);
    for (char& c : e.bytes) c = static_cast<char>(random());
    writer.Tensor(name, e.dims, e.type, e.bytes);
    tensors[name] = std::move(e);
  }
  explicit RandomFile(uint64_t seed) : random(seed) {
    writer.version = 2 + Below(2);
    if (Below(2)) {
      writer.alignment = uint64_t{8} << Below(8);
      writer.U32("general.alignment", writer.alignment);
      scalars["general.alignment"] = writer.alignment;
    }
    for (int i = 0, n = Below(12); i < n; ++i) AddScalar("scalar." + std::to_string(i));
    for (int i = 0, n = Below(6); i < n; ++i) AddArray("array." + std::to_string(i));
    for (int i = 0, n = Below(10); i < n; ++i) AddTensor("tensor." + std::to_string(i));
  }
};

TEST(Gguf, RandomFilesReadBackEqual) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    const RandomFile want(seed);
    const std::string bytes = want.writer.Build();
    const auto file = GgufFile::Parse(AsBytes(bytes));
    ASSERT_TRUE(file.ok()) << "seed " << seed << ": " << file.status().message();
    EXPECT_EQ(file->version(), want.writer.version);
    EXPECT_EQ(file->metadata().size(),
              want.scalars.size() + want.strings.size() + want.ints.size());
    for (const auto& [key, value] : want.scalars) {
      const GgufValue& got = file->metadata().find(key)->second;
      ASSERT_EQ(got.index(), value.index()) << "seed " << seed << " " << key;
      std::visit(
          [&]<typename T>(const T& v) {
            if constexpr (!std::is_same_v<T, GgufArray>) {
              EXPECT_EQ(std::get<T>(got), v) << "seed " << seed;
            }
          },
          value);
    }
    for (const auto& [key, value] : want.strings)
      EXPECT_EQ(*file->GetStrings(key), value) << "seed " << seed;
    for (const auto& [key, value] : want.ints)
      EXPECT_EQ(*file->GetInts(key), value) << "seed " << seed;
    ASSERT_EQ(file->tensors().size(), want.tensors.size());
    for (const auto& [name, e] : want.tensors) {
      const GgufTensor& got = file->tensors().find(name)->second;
      EXPECT_EQ(got.dims, e.dims);
      EXPECT_EQ(got.type, e.type);
      EXPECT_EQ(got.offset % want.writer.alignment, 0u);
      EXPECT_EQ(bytes.substr(got.offset, got.bytes), e.bytes) << "seed " << seed << " " << name;
    }
  }
}

// ---- Split files -------------------------------------------------------------------------------

std::string Part(uint64_t number, uint64_t count, std::string_view tensor) {
  GgufWriter writer;
  writer.Entry("split.no", 2, Raw(static_cast<uint16_t>(number)));
  writer.Entry("split.count", 2, Raw(static_cast<uint16_t>(count)));
  writer.Entry("split.tensors.count", 5, Raw(int32_t{2}));
  if (number == 0) writer.String("general.architecture", "llama");
  writer.Tensor(tensor, {4}, 0, std::string(16, static_cast<char>('0' + number)));
  return writer.Build();
}

TEST(GgufSplit, OpensAllPartsFromAnyOfThem) {
  const TempFolder folder;
  folder.Write("m-00001-of-00002.gguf", Part(0, 2, "a"));
  folder.Write("m-00002-of-00002.gguf", Part(1, 2, "b"));
  for (const char* name : {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}) {
    const auto file = GgufFile::Open(folder / name);
    ASSERT_TRUE(file.ok()) << file.status().message();
    EXPECT_EQ(*file->GetString("general.architecture"), "llama");
    EXPECT_EQ(*file->Tensor("a")->data, std::byte{'0'});
    EXPECT_EQ(*file->Tensor("b")->data, std::byte{'1'});
  }
}

TEST(GgufSplit, RefusesIncompleteAndInconsistentSets) {
  const TempFolder folder;
  const std::string first = folder.Write("m-00001-of-00002.gguf", Part(0, 2, "a"));
  auto file = GgufFile::Open(first);
  EXPECT_EQ(file.status().code(), Code::kNotFound);
  EXPECT_THAT(file.status().message(), HasSubstr("part 2 of 2"));
  EXPECT_THAT(file.status().message(), HasSubstr("m-00002-of-00002.gguf"));

  folder.Write("m-00002-of-00002.gguf", Part(1, 2, "a"));
  EXPECT_THAT(GgufFile::Open(first).status().message(),
              HasSubstr("tensor 'a' is in an earlier part too"));
  folder.Write("m-00002-of-00002.gguf", Part(0, 2, "b"));
  EXPECT_THAT(GgufFile::Open(first).status().message(), HasSubstr("split.no"));
  GgufWriter empty;
  empty.Entry("split.no", 2, Raw(uint16_t{1})).Entry("split.count", 2, Raw(uint16_t{2}));
  folder.Write("m-00002-of-00002.gguf", empty.Build());
  EXPECT_THAT(GgufFile::Open(first).status().message(),
              HasSubstr("hold 1 tensors, split.tensors.count is 2"));

  const std::string renamed = folder.Write("model.gguf", Part(0, 2, "a"));
  EXPECT_EQ(GgufFile::Open(renamed).status().code(), Code::kInvalidArgument);
  EXPECT_THAT(GgufFile::Open(renamed).status().message(), HasSubstr("one of 2 parts"));
}

TEST(Gguf, OpenNamesTheFile) {
  const TempFolder folder;
  EXPECT_EQ(GgufFile::Open(folder / "none.gguf").status().code(), Code::kNotFound);
  const std::string path = folder.Write("bad.gguf", "GGUF");
  EXPECT_THAT(GgufFile::Open(path).status().message(), HasSubstr("bad.gguf: byte 4"));
  EXPECT_EQ(GgufFile::Open(folder.path()).status().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace baton::model

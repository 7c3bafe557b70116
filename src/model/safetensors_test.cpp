// The safetensors parser: good files, sharded sets, and a refusal with a reason for every hostile
// header, index and shard.
#include "model/safetensors.h"

#include <gmock/gmock.h>

#include <random>

#include "common/json.h"
#include "model/test_files.h"

namespace baton::model {
namespace {

using testing::HasSubstr;

// One tensor "x" with `fields` and `data` bytes of data.
std::string One(std::string_view fields, size_t data = 16) {
  return SafetensorsBytes("{\"x\":{" + std::string(fields) + "}}", std::string(data, '\1'));
}
constexpr char kGoodFields[] = R"("dtype":"F32","shape":[2,2],"data_offsets":[0,16])";

TEST(Safetensors, ReadsWhatWasWritten) {
  const std::string bytes = SafetensorsBytes(
      R"({"__metadata__":{"format":"pt"},"m":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
      R"("v":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  )",  // 144 bytes: the data are
                                                                     // aligned
      "abcd0123456789AB");
  const auto file = SafetensorsFiles::Parse(AsBytes(bytes));
  ASSERT_TRUE(file.ok()) << file.status().message();
  ASSERT_EQ(file->tensors().size(), 2u);
  const auto m = file->Tensor("m");
  ASSERT_TRUE(m.ok()) << m.status().message();
  EXPECT_EQ(m->dtype, kernels::DType::kBF16);
  EXPECT_EQ(m->rows, 2);
  EXPECT_EQ(m->cols, 3);
  EXPECT_EQ(*m->data, std::byte{'0'});
  const auto v = file->Tensor("v");
  ASSERT_TRUE(v.ok());
  EXPECT_EQ(v->rows, 1);
  EXPECT_EQ(v->cols, 1);
  EXPECT_EQ(file->Tensor("w").status().code(), Code::kNotFound);
}

TEST(Safetensors, EmptyAndScalarTensorsAreAllowedInFiles) {
  const std::string bytes = SafetensorsBytes(
      R"({"e":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]},)"
      R"("s":{"dtype":"I64","shape":[],"data_offsets":[0,8]}})",
      "12345678");
  const auto file = SafetensorsFiles::Parse(AsBytes(bytes));
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->Tensor("s").status().code(), Code::kUnsupported);
}

TEST(Safetensors, Fp8BringsItsScales) {
  const std::string header = R"({"w":{"dtype":"F8_E4M3","shape":[2,4],"data_offsets":[0,8]},)"
                             R"("w_scale_inv":{"dtype":"F32","shape":[1,1],"data_offsets":[8,12]},)"
                             R"("z":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[12,16]}})";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  const std::string bytes = SafetensorsBytes(padded, "01234567" + Raw(0.5f) + "0123");
  const auto file = SafetensorsFiles::Parse(AsBytes(bytes));
  ASSERT_TRUE(file.ok()) << file.status().message();
  const auto w = file->Tensor("w");
  ASSERT_TRUE(w.ok()) << w.status().message();
  EXPECT_EQ(*w->block_scales, 0.5f);
  EXPECT_THAT(file->Tensor("z").status().message(), HasSubstr("no block scales 'z_scale_inv'"));
}

TEST(Safetensors, UnreadableTensorsSayWhy) {
  struct Case {
    const char* fields;
    size_t data;
    const char* message;
  };
  for (const Case& c :
       {Case{R"("dtype":"I32","shape":[4],"data_offsets":[0,16])", 16, "is I32; readable are"},
        Case{R"("dtype":"F32","shape":[2,2,1],"data_offsets":[0,16])", 16, "has 3 dimensions"}}) {
    const std::string bytes = One(c.fields, c.data);
    const auto file = SafetensorsFiles::Parse(AsBytes(bytes));
    ASSERT_TRUE(file.ok()) << file.status().message();
    EXPECT_EQ(file->Tensor("x").status().code(), Code::kUnsupported);
    EXPECT_THAT(file->Tensor("x").status().message(), HasSubstr(c.message));
  }
  std::string header = "{\"x\":{" + std::string(kGoodFields) + "}}";
  while (header.size() % 4 != 1) header += ' ';
  const std::string bytes = SafetensorsBytes(header, std::string(16, '\1'));
  const auto file = SafetensorsFiles::Parse(AsBytes(bytes));
  ASSERT_TRUE(file.ok());
  EXPECT_THAT(file->Tensor("x").status().message(), HasSubstr("not aligned"));
}

struct Hostile {
  std::string name, bytes, message;
};

std::vector<Hostile> HostileFiles() {
  const std::string good = One(kGoodFields);
  std::string deep = R"({"__metadata__":)";
  for (int i = 0; i < 100; ++i) deep += "[";
  const auto two = [](std::string_view a, std::string_view b) {
    return SafetensorsBytes(fmt::format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":{}}},)"
                                        R"("b":{{"dtype":"U8","shape":[4],"data_offsets":{}}}}})",
                                        a, b),
                            "12345678");
  };
  return {
      {"empty", "", "byte 0: 0 bytes are too few"},
      {"seven_bytes", "1234567", "byte 0: 7 bytes are too few"},
      {"header_longer_than_file", SafetensorsBytes("{}", "", 3),
       "byte 0: safetensors header of 3 bytes; 2 are left"},
      {"header_length_wraps", SafetensorsBytes("{}", "", ~uint64_t{0}),
       "byte 0: safetensors header of 18446744073709551615"},
      {"header_length_minus_8", SafetensorsBytes("{}", "", ~uint64_t{7}),
       "byte 0: safetensors header of"},
      {"header_over_limit", SafetensorsBytes("{}", std::string(16, ' '), 100'000'001),
       "100000000 are the limit"},
      {"header_empty", SafetensorsBytes("", ""), "byte 8: a safetensors header begins"},
      {"header_array", SafetensorsBytes("[]", ""), "byte 8: a safetensors header begins"},
      {"header_spaces_first", SafetensorsBytes(" {}", ""), "byte 8: a safetensors header begins"},
      {"header_cut", SafetensorsBytes("{\"x\":", ""), "invalid JSON"},
      {"header_two_values", SafetensorsBytes("{}{}", ""), "invalid JSON"},
      {"header_bad_utf8", SafetensorsBytes("{\"\xff\":1}", ""), "invalid JSON"},
      {"header_nested_deep", SafetensorsBytes(deep, ""), "invalid JSON"},
      {"pickle", std::string("\x80\x02}q\0X", 6) + std::string(50, 'a'),
       "byte 0: safetensors header of"},
      {"entry_no_object", SafetensorsBytes(R"({"x":3})", ""), "tensor 'x': its entry is no object"},
      {"entry_empty", One("", 0), "tensor 'x': dtype is missing"},
      {"dtype_number", One(R"("dtype":4,"shape":[4],"data_offsets":[0,16])"),
       "dtype is missing or no string"},
      {"dtype_unknown", One(R"("dtype":"F4","shape":[4],"data_offsets":[0,16])"),
       "unknown dtype 'F4'"},
      {"shape_missing", One(R"("dtype":"F32","data_offsets":[0,16])"), "shape is missing"},
      {"shape_number", One(R"("dtype":"F32","shape":4,"data_offsets":[0,16])"),
       "shape is missing or no array"},
      {"shape_negative", One(R"("dtype":"F32","shape":[-4],"data_offsets":[0,16])"),
       "no whole number"},
      {"shape_fraction", One(R"("dtype":"F32","shape":[4.5],"data_offsets":[0,16])"),
       "no whole number"},
      {"shape_overflow",
       One(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,16])"), "overflows"},
      {"shape_overflow_to_16",
       One(R"("dtype":"F32","shape":[4611686018427387908],"data_offsets":[0,16])"), "overflows"},
      {"shape_huge_number",
       One(R"("dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,16])"),
       "no whole number"},
      {"shape_9_dimensions",
       One(R"("dtype":"F32","shape":[1,1,1,1,1,1,1,1,4],"data_offsets":[0,16])"), "9 dimensions"},
      {"offsets_missing", One(R"("dtype":"F32","shape":[4])"), "data_offsets is no pair"},
      {"offsets_three", One(R"("dtype":"F32","shape":[4],"data_offsets":[0,16,32])"),
       "data_offsets is no pair"},
      {"offsets_text", One(R"("dtype":"F32","shape":[4],"data_offsets":["0","16"])"),
       "no ascending pair"},
      {"offsets_negative", One(R"("dtype":"F32","shape":[4],"data_offsets":[-16,0])"),
       "no ascending pair"},
      {"offsets_reversed", One(R"("dtype":"F32","shape":[4],"data_offsets":[16,0])"),
       "no ascending pair"},
      {"offsets_outside", One(R"("dtype":"F32","shape":[8],"data_offsets":[0,32])"),
       "ends at data byte 32, but the file has 16"},
      {"size_mismatch", One(R"("dtype":"F32","shape":[3],"data_offsets":[0,16])"),
       "has 16 bytes, its dtype and shape need 12"},
      {"hole_at_begin", One(R"("dtype":"F32","shape":[3],"data_offsets":[4,16])"),
       "leaves a hole of 4 bytes"},
      {"bytes_at_end", One(R"("dtype":"F32","shape":[3],"data_offsets":[0,12])"),
       "4 bytes after the last tensor"},
      {"no_tensors_but_data", SafetensorsBytes("{}", "1234"), "4 bytes after the last tensor"},
      {"overlap", two("[0,4]", "[2,6]"), "overlaps"},
      {"same_bytes_twice", two("[0,4]", "[0,4]"), "overlaps"},
      {"hole_between",
       SafetensorsBytes(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                        R"("b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                        "12345678"),
       "'b': leaves a hole of 2 bytes"},
      {"data_cut", good.substr(0, good.size() - 1), "ends at data byte 16, but the file has 15"},
      {"name_with_control_bytes", SafetensorsBytes(R"({"a\n\u0001":3})", ""), R"('a\x0a\x01')"},
  };
}

class HostileSafetensors : public testing::TestWithParam<Hostile> {};

TEST_P(HostileSafetensors, IsRefusedWithPlaceAndReason) {
  const std::vector<char> bytes(GetParam().bytes.begin(), GetParam().bytes.end());
  const auto file = SafetensorsFiles::Parse(std::as_bytes(std::span(bytes)));
  ASSERT_FALSE(file.ok());
  EXPECT_THAT(file.status().message(), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(Table, HostileSafetensors, testing::ValuesIn(HostileFiles()),
                         [](const auto& info) { return info.param.name; });

TEST(Safetensors, EveryCutIsRefused) {
  const std::string good = One(kGoodFields);
  for (size_t size = 0; size < good.size(); ++size) {
    const std::vector<char> bytes(good.begin(), good.begin() + size);
    EXPECT_FALSE(SafetensorsFiles::Parse(std::as_bytes(std::span(bytes))).ok()) << size;
  }
}

TEST(Safetensors, RandomFilesReadBackEqual) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    std::mt19937_64 random(seed);
    const auto below = [&](uint64_t n) { return random() % n; };
    constexpr std::pair<const char*, int> kTypes[] = {
        {"F32", 4}, {"BF16", 2}, {"U8", 1}, {"I64", 8}};
    json::object header;
    std::map<std::string, std::string> want;
    std::string data;
    for (int i = 0, n = below(8); i < n; ++i) {
      const auto [type, size] = kTypes[below(4)];
      json::array shape;
      uint64_t bytes = size;
      for (int d = below(4); d > 0; --d) bytes *= shape.emplace_back(below(5)).as_uint64();
      const uint64_t begin = data.size();
      for (uint64_t b = 0; b < bytes; ++b) data += static_cast<char>(random());
      const std::string name = "tensor." + std::to_string(below(1000)) + "." + std::to_string(i);
      header[name] = {{"dtype", type}, {"shape", shape}, {"data_offsets", {begin, begin + bytes}}};
      want[name] = data.substr(begin);
    }
    const std::string file = SafetensorsBytes(json::serialize(header), data);
    const auto got = SafetensorsFiles::Parse(AsBytes(file));
    ASSERT_TRUE(got.ok()) << "seed " << seed << ": " << got.status().message();
    ASSERT_EQ(got->tensors().size(), want.size());
    for (const auto& [name, bytes] : want) {
      const SafeTensor& tensor = got->tensors().at(name);
      EXPECT_EQ(
          std::string(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()),
          bytes);
      EXPECT_EQ(tensor.shape.size(), header.at(name).at("shape").as_array().size());
    }
  }
}

// ---- Sharded sets ------------------------------------------------------------------------------

std::string Shard(std::string_view tensor) {
  return SafetensorsBytes(
      fmt::format(R"({{"{}":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}}})", tensor), "abcd");
}

TEST(SafetensorsIndex, OpensEveryShard) {
  const TempFolder folder;
  folder.Write("one.safetensors", Shard("a"));
  folder.Write("two.safetensors", Shard("b"));
  const std::string index =
      folder.Write("model.safetensors.index.json",
                   R"({"metadata":{},"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})");
  for (const std::string& path : {index, folder.path()}) {
    const auto files = SafetensorsFiles::Open(path);
    ASSERT_TRUE(files.ok()) << files.status().message();
    EXPECT_EQ(files->tensors().size(), 2u);
  }
}

TEST(SafetensorsIndex, NamesWhatIsMissing) {
  const TempFolder folder;
  folder.Write("one.safetensors", Shard("a"));
  folder.Write("model.safetensors.index.json",
               R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})");
  EXPECT_EQ(SafetensorsFiles::Open(folder.path()).status().code(), Code::kNotFound);
  EXPECT_THAT(SafetensorsFiles::Open(folder.path()).status().message(),
              HasSubstr("two.safetensors"));
  folder.Write("two.safetensors", Shard("c"));
  EXPECT_THAT(SafetensorsFiles::Open(folder.path()).status().message(),
              HasSubstr("tensor 'b' is not in two.safetensors"));
}

TEST(SafetensorsIndex, RefusesHostileIndexes) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"weight_map":{"a":"../x.safetensors"}})", "only files of the same folder"},
      {R"({"weight_map":{"a":"/etc/passwd"}})", "only files of the same folder"},
      {R"({"weight_map":{"a":"sub/x.safetensors"}})", "only files of the same folder"},
      {R"({"weight_map":{"a":"sub\\x.safetensors"}})", "only files of the same folder"},
      {R"({"weight_map":{"a":".."}})", "only files of the same folder"},
      {R"({"weight_map":{"a":"x\u0000.safetensors"}})", "only files of the same folder"},
      {R"({"weight_map":{"a":""}})", "the file of tensor 'a' is no name"},
      {R"({"weight_map":{"a":1}})", "the file of tensor 'a' is no name"},
      {R"({"weight_map":{}})", "weight_map is empty"},
      {R"({"weight_map":[]})", "weight_map is missing or no object"},
      {R"({})", "weight_map is missing"},
      {R"([])", "weight_map is missing"},
      {R"({"weight_map")", "invalid JSON"},
  };
  for (const auto& [text, message] : cases) {
    const auto index = ParseSafetensorsIndex(text);
    ASSERT_FALSE(index.ok()) << text;
    EXPECT_THAT(index.status().message(), HasSubstr(message));
  }
}

TEST(Safetensors, FoldersWithoutAClearFileSaySo) {
  const TempFolder folder;
  EXPECT_THAT(SafetensorsFiles::Open(folder.path()).status().message(),
              HasSubstr("holds no .safetensors files"));
  folder.Write("weights.safetensors", Shard("a"));
  EXPECT_TRUE(SafetensorsFiles::Open(folder.path()).ok());
  folder.Write("other.safetensors", Shard("a"));
  EXPECT_THAT(SafetensorsFiles::Open(folder.path()).status().message(),
              HasSubstr("holds several .safetensors files"));
  folder.Write("model.safetensors", Shard("a"));
  EXPECT_TRUE(SafetensorsFiles::Open(folder.path()).ok());
}

}  // namespace
}  // namespace baton::model

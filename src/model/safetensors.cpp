// SafetensorsFiles: finding and opening the files of a model, views of tensors. Parsing is in
// safetensors_parse.cpp.
#include "model/safetensors.h"

#include <filesystem>

#include "model/text.h"

namespace baton::model {
namespace {

namespace fs = std::filesystem;

constexpr int kFp8Block = 128;

// Folders hold an index, model.safetensors, or one file of any other name.
Result<std::string> FindInFolder(const fs::path& folder) {
  std::error_code error;
  for (const char* name : {"model.safetensors.index.json", "model.safetensors"}) {
    if (fs::exists(folder / name, error)) return (folder / name).string();
  }
  std::vector<std::string> found;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".safetensors") found.push_back(it->path().string());
  }
  if (found.size() == 1) return found.front();
  return Error(Code::kNotFound,
               "{} holds {} .safetensors files and no model.safetensors.index.json",
               folder.string(), found.empty() ? "no" : "several");
}

}  // namespace

Result<SafetensorsFiles> SafetensorsFiles::Parse(std::span<const std::byte> bytes) {
  auto tensors = ParseSafetensors(bytes);
  if (!tensors.ok()) return tensors.status();
  SafetensorsFiles out;
  out.tensors_ = std::move(*tensors);
  return out;
}

Result<SafetensorsFiles> SafetensorsFiles::OpenFile(const std::string& path) {
  auto mapped = MappedFile::Open(path);
  if (!mapped.ok()) return mapped.status();
  auto out = Parse(mapped->bytes());
  if (!out.ok()) return out.status().Prefixed(path);
  out->files_.push_back(std::make_shared<MappedFile>(std::move(*mapped)));
  return out;
}

Result<SafetensorsFiles> SafetensorsFiles::OpenIndex(const std::string& path) {
  const auto mapped = MappedFile::Open(path);
  if (!mapped.ok()) return mapped.status();
  const auto bytes = mapped->bytes();
  const auto index =
      ParseSafetensorsIndex({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (!index.ok()) return index.status().Prefixed(path);

  std::map<std::string, SafetensorsFiles> shards;
  SafetensorsFiles out;
  for (const auto& [tensor, file] : *index) {
    auto shard = shards.find(file);
    if (shard == shards.end()) {
      auto opened = OpenFile((fs::path(path).parent_path() / file).string());
      if (!opened.ok()) return opened.status().Prefixed("a shard of " + path);
      out.files_.push_back(opened->files_.front());
      shard = shards.emplace(file, std::move(*opened)).first;
    }
    const auto found = shard->second.tensors_.find(tensor);
    if (found == shard->second.tensors_.end()) {
      return Error(Code::kDataCorrupt, "{}: tensor {} is not in {} as the index says", path,
                   Quote(tensor), file);
    }
    out.tensors_.emplace(tensor, found->second);
  }
  return out;
}

Result<SafetensorsFiles> SafetensorsFiles::Open(const std::string& path) {
  std::error_code error;
  std::string file = path;
  if (fs::is_directory(path, error)) {
    auto found = FindInFolder(path);
    if (!found.ok()) return found.status();
    file = std::move(*found);
  }
  return file.ends_with(".json") ? OpenIndex(file) : OpenFile(file);
}

Result<kernels::StoredTensor> SafetensorsFiles::Tensor(std::string_view name) const {
  using kernels::DType;
  struct Row {
    std::string_view name;
    DType dtype;
  };
  constexpr Row kReadable[] = {{"F32", DType::kF32},
                               {"F16", DType::kF16},
                               {"BF16", DType::kBF16},
                               {"F8_E4M3", DType::kF8E4M3}};
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    return Error(Code::kNotFound, "the safetensors files have no tensor {}", Quote(name));
  }
  const SafeTensor& tensor = found->second;
  if (tensor.shape.empty() || tensor.shape.size() > 2) {
    return Error(Code::kUnsupported, "tensor {} has {} dimensions; 1 or 2 are readable",
                 Quote(name), tensor.shape.size());
  }
  for (const Row& row : kReadable) {
    if (row.name != tensor.dtype) continue;
    kernels::StoredTensor stored;
    stored.dtype = row.dtype;
    stored.cols = tensor.shape.back();
    stored.rows = tensor.shape.size() == 2 ? tensor.shape[0] : 1;
    stored.data = tensor.bytes.data();
    if (reinterpret_cast<uintptr_t>(stored.data) % InfoOf(row.dtype).block_bytes != 0) {
      return Error(Code::kUnsupported,
                   "tensor {} is not aligned to its elements; save the file again "
                   "with a current safetensors library",
                   Quote(name));
    }
    if (row.dtype == DType::kF8E4M3) {
      if (Status status = AttachBlockScales(name, &stored); !status.ok()) return status;
    }
    return stored;
  }
  return Error(Code::kUnsupported, "tensor {} is {}; readable are F32, F16, BF16 and F8_E4M3",
               Quote(name), tensor.dtype);
}

Status SafetensorsFiles::AttachBlockScales(std::string_view name,
                                           kernels::StoredTensor* weight) const {
  const std::string scale_name = std::string(name) + "_scale_inv";
  const auto found = tensors_.find(scale_name);
  if (found == tensors_.end()) {
    return Error(Code::kUnsupported, "FP8 tensor {} has no block scales {}", Quote(name),
                 Quote(scale_name));
  }
  const std::vector<int64_t> wanted = {(weight->rows + kFp8Block - 1) / kFp8Block,
                                       (weight->cols + kFp8Block - 1) / kFp8Block};
  const SafeTensor& scales = found->second;
  if (scales.dtype != "F32" || scales.shape != wanted ||
      reinterpret_cast<uintptr_t>(scales.bytes.data()) % alignof(float) != 0) {
    return Error(Code::kDataCorrupt,
                 "{} must be aligned F32 [{}, {}]: one scale per block of {} x {}",
                 Quote(scale_name), wanted[0], wanted[1], kFp8Block, kFp8Block);
  }
  weight->block_scales = reinterpret_cast<const float*>(scales.bytes.data());
  return Status::Ok();
}

}  // namespace baton::model

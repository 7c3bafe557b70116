// The hub cache's layout (huggingface_hub, "Understand caching"): models--org--name/ with
// refs/<branch or tag> holding a commit, and snapshots/<commit>/ holding the files as links.
#include "model/hub.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <vector>

#include "model/text.h"

namespace baton::model {
namespace {

namespace fs = std::filesystem;

std::optional<std::string> Environment(const char* name) {
  const char* value = std::getenv(name);
  return value && *value ? std::optional<std::string>(value) : std::nullopt;
}

std::string ExpandHome(const std::string& path) {
  if (path != "~" && !path.starts_with("~/")) return path;
  return Environment("HOME").value_or("") + path.substr(1);
}

struct HubId {
  std::string org, name, revision;
  std::string Repo() const { return org.empty() ? name : org + "/" + name; }
  std::string CacheName() const { return "models--" + (org.empty() ? name : org + "--" + name); }
};

bool IsRepoName(std::string_view s) {
  return !s.empty() && s.size() <= 96 && s.front() != '.' && s.front() != '-' &&
         std::all_of(s.begin(), s.end(), [](unsigned char c) {
           return std::isalnum(c) || c == '-' || c == '_' || c == '.';
         });
}

// Branches may have slashes ("refs/pr/1"); what would leave the cache folder is refused.
bool IsRevision(std::string_view s) {
  if (s.empty() || s.size() > 200 || s.front() == '/' || s.back() == '/') return false;
  if (s.find("..") != s.npos || s.find("//") != s.npos || s.front() == '.') return false;
  return std::all_of(s.begin(), s.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '/' || c == '+';
  });
}

// "org/name", "name", either with "@revision".
std::optional<HubId> ParseHubId(const std::string& text, const std::string& revision) {
  HubId id{.revision = revision};
  const size_t at = text.find('@');
  if (at != text.npos) {
    if (!revision.empty()) return std::nullopt;
    id.revision = text.substr(at + 1);
    if (id.revision.empty()) return std::nullopt;
  }
  if (id.revision.empty()) id.revision = "main";
  const std::string repo = text.substr(0, at);
  const size_t slash = repo.find('/');
  id.org = slash == repo.npos ? "" : repo.substr(0, slash);
  id.name = slash == repo.npos ? repo : repo.substr(slash + 1);
  if ((slash != repo.npos && !IsRepoName(id.org)) || !IsRepoName(id.name)) return std::nullopt;
  return IsRevision(id.revision) ? std::optional(id) : std::nullopt;
}

bool Exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

bool IsFolder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

// The commit that refs/<revision> names; empty when there is no such file or it holds no commit.
std::string ReadRef(const fs::path& file) {
  if (IsFolder(file)) return "";
  std::ifstream in(file);
  std::string commit;
  in >> commit;
  const bool hex =
      std::all_of(commit.begin(), commit.end(), [](unsigned char c) { return std::isxdigit(c); });
  return hex && commit.size() <= 64 ? commit : "";
}

bool IsLaterSplit(const std::string& name) {
  const size_t of = name.rfind("-of-");
  return of != name.npos && of >= 6 && name[of - 6] == '-' && name.substr(of - 5, 5) != "00001";
}

std::string Join(const std::vector<std::string>& items, std::string_view separator) {
  std::string out;
  for (const std::string& item : items) out += (out.empty() ? "" : std::string(separator)) + item;
  return out;
}

// Repositories of GGUF files often carry the original config.json too, so that it decides only
// when the folder holds safetensors or no weights at all (enough for dummy weights).
Result<ModelFiles> InspectFolder(const fs::path& folder) {
  std::error_code error;
  std::vector<std::string> ggufs;
  bool has_safetensors = false;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    has_safetensors |= name.ends_with(".safetensors");
    if (name.ends_with(".gguf") && !IsLaterSplit(name)) ggufs.push_back(name);
  }
  if (error) {
    return Error(Code::kInvalidArgument, "cannot read folder {}: {}", folder.string(),
                 error.message());
  }
  if (Exists(folder / "config.json") && (has_safetensors || ggufs.empty())) {
    return ModelFiles{ModelFormat::kSafetensors, folder.string(), folder.string()};
  }
  std::sort(ggufs.begin(), ggufs.end());
  if (ggufs.size() == 1) {
    return ModelFiles{ModelFormat::kGguf, (folder / ggufs[0]).string(), folder.string()};
  }
  if (ggufs.empty()) {
    return Error(Code::kInvalidArgument,
                 "folder {} holds no model: neither config.json nor a .gguf file", folder.string());
  }
  return Error(Code::kInvalidArgument,
               "folder {} holds several GGUF models; give the path of one: {}", folder.string(),
               Join(ggufs, ", "));
}

Result<ModelFiles> ResolveInCache(const HubId& id) {
  const fs::path repo = fs::path(HubCacheFolder()) / id.CacheName();
  const fs::path ref = repo / "refs" / id.revision;
  const std::string commit = ReadRef(ref);
  const fs::path by_ref = repo / "snapshots" / commit;
  const fs::path by_commit = repo / "snapshots" / id.revision;
  if (!commit.empty() && IsFolder(by_ref)) return InspectFolder(by_ref);
  if (IsFolder(by_commit)) return InspectFolder(by_commit);
  const std::string revision = id.revision == "main" ? "" : " --revision " + id.revision;
  return Error(
      Code::kNotFound,
      "model {} is neither a file or folder nor in the local hub cache (looked for {} and {}). "
      "Models are never downloaded here; fetch it with: hf download {}{}",
      id.Repo(), ref.string(), (commit.empty() ? by_commit : by_ref).string(), id.Repo(), revision);
}

}  // namespace

std::string HubCacheFolder() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const auto folder = Environment(name)) return ExpandHome(*folder);
  }
  if (const auto home = Environment("HF_HOME")) return ExpandHome(*home) + "/hub";
  return ExpandHome(Environment("XDG_CACHE_HOME").value_or("~/.cache")) + "/huggingface/hub";
}

Result<ModelFiles> ResolveModel(const std::string& model_path, const std::string& revision) {
  if (model_path.empty()) return Error(Code::kInvalidArgument, "the model path is empty");
  const fs::path path = ExpandHome(model_path);
  if (IsFolder(path)) return InspectFolder(path);
  if (Exists(path)) {
    if (path.extension() == ".gguf") {
      return ModelFiles{ModelFormat::kGguf, path.string(), path.parent_path().string()};
    }
    if (path.extension() == ".safetensors" && Exists(path.parent_path() / "config.json")) {
      return InspectFolder(path.parent_path());
    }
    return Error(
        Code::kInvalidArgument,
        "{} is no model: give a .gguf file, a folder with config.json and .safetensors files, "
        "or a hub id",
        path.string());
  }
  if (const auto id = ParseHubId(model_path, revision); id && !model_path.ends_with(".gguf")) {
    return ResolveInCache(*id);
  }
  return Error(Code::kNotFound, "no file or folder {}, and it is no hub id (org/name[@revision])",
               Quote(path.string()));
}

}  // namespace baton::model

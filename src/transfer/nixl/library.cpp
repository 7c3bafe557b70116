#include "transfer/nixl/library.h"

#include <dlfcn.h>
#include <fmt/ranges.h>
#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <utility>

namespace baton::transfer::nixl {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFileName = "libnixl_capi.so";
constexpr const char* kInstall =
    "install it into the Python environment of this shell (python3 -m pip install nixl-cu13; with "
    "CUDA 12 nixl-cu12) or name its folder with --nixl-path or BATON_NIXL_PATH";

std::vector<fs::path> Children(const fs::path& folder) {
  std::vector<fs::path> children;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    children.push_back(it->path());
  // Later versions first: python3.12 before python3.11, cu13 before cu12.
  std::sort(children.rbegin(), children.rend());
  return children;
}

bool Exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

class Search {
 public:
  explicit Search(std::vector<std::string>& looked_in) : looked_in_(looked_in) {}

  // A folder with the library in it, as in the wheels or in an installation from source.
  void Folder(const fs::path& folder) {
    if (folder.empty() || !Exists(folder)) return;
    looked_in_.push_back(folder.string());
    Try(folder / kFileName);
    for (const fs::path& child : Children(folder))
      if (child.filename().string().find("nixl") != std::string::npos) Try(child / kFileName);
  }
  // An environment or prefix: its Python packages and library folders.
  void Prefix(const fs::path& prefix) {
    if (prefix.empty()) return;
    for (const char* lib : {"lib", "lib64"}) {
      for (const fs::path& python : Children(prefix / lib)) {
        if (!python.filename().string().starts_with("python3")) continue;
        Folder(python / "site-packages");
        Folder(python / "dist-packages");
      }
      Folder(prefix / lib);
    }
    for (const char* triple : {"lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"})
      Folder(prefix / triple);
  }
  void Try(const fs::path& file) {
    std::error_code error;
    if (!fs::is_regular_file(file, error)) return;
    if (std::find(found_.begin(), found_.end(), file.string()) == found_.end())
      found_.push_back(file.string());
  }
  std::vector<std::string> Found() && { return std::move(found_); }

 private:
  std::vector<std::string>& looked_in_;
  std::vector<std::string> found_;
};

std::vector<std::string> Split(const std::string& list) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= list.size();) {
    const size_t end = std::min(list.find(':', at), list.size());
    if (end > at) parts.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

template <typename Function>
bool Bind(void* library, const char* name, Function& function, std::vector<std::string>& missing) {
  const std::string symbol = std::string("nixl_capi_") + name;
  function = reinterpret_cast<Function>(dlsym(library, symbol.c_str()));
  if (!function) missing.push_back(symbol);
  return function != nullptr;
}

std::vector<std::string> BindAll(void* library, Api& api) {
  std::vector<std::string> missing;
  const auto bind = [&](const char* name, auto& function) { Bind(library, name, function, missing); };
  bind("is_stub", api.is_stub);
  bind("create_configured_agent", api.create_configured_agent);
  bind("destroy_agent", api.destroy_agent);
  bind("get_local_md", api.get_local_md);
  bind("get_local_partial_md", api.get_local_partial_md);
  bind("load_remote_md", api.load_remote_md);
  bind("invalidate_remote_md", api.invalidate_remote_md);
  bind("get_available_plugins", api.get_available_plugins);
  bind("string_list_size", api.string_list_size);
  bind("string_list_get", api.string_list_get);
  bind("destroy_string_list", api.destroy_string_list);
  bind("create_params", api.create_params);
  bind("destroy_params", api.destroy_params);
  bind("create_backend", api.create_backend);
  bind("destroy_backend", api.destroy_backend);
  bind("create_opt_args", api.create_opt_args);
  bind("destroy_opt_args", api.destroy_opt_args);
  bind("opt_args_set_notif_msg", api.opt_args_set_notif_msg);
  bind("opt_args_set_has_notif", api.opt_args_set_has_notif);
  bind("register_mem", api.register_mem);
  bind("deregister_mem", api.deregister_mem);
  bind("create_reg_dlist", api.create_reg_dlist);
  bind("destroy_reg_dlist", api.destroy_reg_dlist);
  bind("reg_dlist_add_desc", api.reg_dlist_add_desc);
  bind("create_xfer_dlist", api.create_xfer_dlist);
  bind("destroy_xfer_dlist", api.destroy_xfer_dlist);
  bind("xfer_dlist_add_desc", api.xfer_dlist_add_desc);
  bind("create_xfer_req", api.create_xfer_req);
  bind("post_xfer_req", api.post_xfer_req);
  bind("get_xfer_status", api.get_xfer_status);
  bind("release_xfer_req", api.release_xfer_req);
  bind("destroy_xfer_req", api.destroy_xfer_req);
  bind("create_notif_map", api.create_notif_map);
  bind("destroy_notif_map", api.destroy_notif_map);
  bind("get_notifs", api.get_notifs);
  bind("notif_map_size", api.notif_map_size);
  bind("notif_map_get_agent_at", api.notif_map_get_agent_at);
  bind("notif_map_get_notifs_size", api.notif_map_get_notifs_size);
  bind("notif_map_get_notif", api.notif_map_get_notif);
  bind("notif_map_clear", api.notif_map_clear);
  return missing;
}

// The file behind a handle: the loader may have found it by its bare name.
std::string FileOf(const Api& api, const std::string& asked) {
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(api.destroy_agent), &info) && info.dli_fname)
    return info.dli_fname;
  return asked;
}

Result<std::shared_ptr<const Library>> Open(const std::string& file) {
  // Local: its many C++ libraries must not meet ours by name. Kept until the process ends.
  void* const handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!handle) {
    const char* const why = dlerror();
    return Error(Code::kUnsupported, "{}", why ? why : "dlopen failed");
  }
  auto library = std::make_shared<Library>();
  const std::vector<std::string> missing = BindAll(handle, library->api);
  if (!missing.empty())
    return Error(Code::kUnsupported, "{} lacks {} ({} of its functions are missing): NIXL 1.0 or "
                 "later is needed", file, missing[0], missing.size());
  if (library->api.is_stub())
    return Error(Code::kUnsupported, "{} is the stub that NIXL builds without its core", file);
  library->file = FileOf(library->api, file);
  library->version = WheelVersion(library->file);
  if (library->version.empty()) library->version = "of unknown version";
  return std::shared_ptr<const Library>(std::move(library));
}

std::string Variable(const char* name) {
  const char* const value = std::getenv(name);
  return value ? value : "";
}

}  // namespace

SearchScene SearchScene::FromEnvironment(const std::string& given) {
  return {.given = given.empty() ? Variable("BATON_NIXL_PATH") : given,
          .virtual_env = Variable("VIRTUAL_ENV"),
          .conda_prefix = Variable("CONDA_PREFIX"),
          .python_path = Variable("PYTHONPATH"),
          .path = Variable("PATH"),
          .home = Variable("HOME")};
}

std::vector<std::string> FindLibraries(const SearchScene& scene,
                                       std::vector<std::string>& looked_in) {
  Search search(looked_in);
  if (!scene.given.empty()) {
    search.Try(scene.given);
    search.Folder(scene.given);
    search.Prefix(scene.given);
    return std::move(search).Found();
  }
  search.Prefix(scene.virtual_env);
  search.Prefix(scene.conda_prefix);
  for (const std::string& folder : Split(scene.python_path)) search.Folder(folder);
  for (const std::string& folder : Split(scene.path))
    if (Exists(fs::path(folder) / "python3")) search.Prefix(fs::path(folder).parent_path());
  if (!scene.home.empty()) search.Prefix(fs::path(scene.home) / ".local");
  if (scene.system_folders) {
    search.Prefix("/usr/local/nixl");
    search.Prefix("/opt/nvidia/nvda_nixl");
    search.Prefix("/usr/local");
    search.Folder("/usr/lib/python3/dist-packages");
  }
  std::vector<std::string> found = std::move(search).Found();
  found.push_back(kFileName);
  return found;
}

std::string WheelVersion(const std::string& file) {
  const fs::path folder = fs::path(file).parent_path();
  std::string package = folder.filename().string();
  if (package.starts_with('.')) package.erase(0, 1);
  package = package.substr(0, package.find('.'));
  if (package.empty()) return "";
  constexpr std::string_view kSuffix = ".dist-info";
  for (const fs::path& child : Children(folder.parent_path())) {
    const std::string name = child.filename().string();
    if (name.starts_with(package + "-") && name.ends_with(kSuffix))
      return name.substr(package.size() + 1, name.size() - package.size() - 1 - kSuffix.size());
  }
  return "";
}

void KeepLoaded() {
  std::vector<std::string> files;
  // Not from inside the callback, which holds the loader's lock.
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* to) {
        if (info->dlpi_name && info->dlpi_name[0] == '/')
          static_cast<std::vector<std::string>*>(to)->emplace_back(info->dlpi_name);
        return 0;
      },
      &files);
  for (const std::string& file : files)
    if (void* const handle = dlopen(file.c_str(), RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE))
      dlclose(handle);
  // Handlers run from the last to the first: this one comes before the libraries' own.
  static const int registered = on_exit([](int code, void*) {
    std::fflush(nullptr);
    _exit(code);
  }, nullptr);
  (void)registered;
}

Result<std::shared_ptr<const Library>> LoadLibrary(const std::string& given) {
  const SearchScene scene = SearchScene::FromEnvironment(given);
  std::vector<std::string> looked_in;
  const std::vector<std::string> files = FindLibraries(scene, looked_in);
  std::string why;
  for (const std::string& file : files) {
    Result<std::shared_ptr<const Library>> library = Open(file);
    if (library.ok()) return library;
    // The first real file tells most; the bare name at the end only that the loader knows none.
    if (why.empty() && file != kFileName) why = library.status().message();
  }
  if (!why.empty())
    return Error(Code::kUnsupported, "NIXL cannot be loaded: {}; {}", why, kInstall);
  if (!scene.given.empty())
    return Error(Code::kUnsupported, "NIXL ({}) is not in {} nor in folders below it that could "
                 "hold it; {}", kFileName, scene.given, kInstall);
  return Error(Code::kUnsupported, "NIXL ({}) was not found in {} nor by the dynamic loader; {}",
               kFileName, fmt::join(looked_in, ", "), kInstall);
}

}  // namespace baton::transfer::nixl

// Finds and loads NIXL at run time.
//
// Looked for, in this order: the path that was given (a file, or a folder around it: a virtual
// environment, its site-packages, a lib folder); else $BATON_NIXL_PATH in the same way; else
// $VIRTUAL_ENV, $CONDA_PREFIX, $PYTHONPATH, the environments of the Python programs on $PATH,
// ~/.local, /usr/local/nixl, /opt/nvidia/nvda_nixl, and what the dynamic loader knows.
// A path that was given and does not work is an error: nothing else is tried.
//
// Thread: any; what Load returned is immutable and stays loaded until the process ends.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"
#include "transfer/nixl/capi.h"

namespace baton::transfer::nixl {

struct Library {
  Api api{};
  std::string file;     // as loaded
  std::string version;  // of the wheel around it; "of unknown version" elsewhere
};

// What the search depends on, so that tests can set the scene.
struct SearchScene {
  std::string given;  // --nixl-path or BATON_NIXL_PATH
  std::string virtual_env, conda_prefix, python_path, path, home;
  bool system_folders = true;
  static SearchScene FromEnvironment(const std::string& given);
};

// Existing library files, best first. Where nothing was given the last is the bare name, which
// leaves the search to the dynamic loader. `looked_in` gets the folders for an error message.
std::vector<std::string> FindLibraries(const SearchScene& scene, std::vector<std::string>& looked_in);

// "1.5.1" for ".../site-packages/.nixl_cu13.mesonpy.libs/libnixl_capi.so", from the dist-info folder
// beside it; empty where there is none.
std::string WheelVersion(const std::string& file);

// kUnsupported says what to install or what the file lacks.
Result<std::shared_ptr<const Library>> LoadLibrary(const std::string& given);

// Keeps every library that is loaded now until the process ends. Call when a backend is open.
// NIXL's wheel brings libraries that the system has too (libnl, libibverbs); where libfabric has the
// system's loaded, those of the wheel register themselves with the system's, and when UCX unloads
// them a pointer into nothing stays behind, which the end of the process trips over (1.5.1). Even
// then their own handlers at exit can crash, so the process ends before these run.
void KeepLoaded();

}  // namespace baton::transfer::nixl

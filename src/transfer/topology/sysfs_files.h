// How files and folders of sysfs are read: what is not there, or vanishes meanwhile, reads as empty.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace baton::transfer {

// First line of a file; empty when it cannot be read.
inline std::string ReadLine(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// In order of name.
inline std::vector<std::filesystem::path> ChildrenOf(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> out;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    out.push_back(it->path());
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace baton::transfer

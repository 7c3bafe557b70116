// The subcommands of `baton`. Each takes the arguments after its name and returns the exit code:
// 0 done, 2 wrong usage or input, others as api/errors.h has them.
#pragma once

#include <string>
#include <vector>

namespace baton::cli {

int RunServe(const std::vector<std::string>& arguments);
int RunUp(const std::vector<std::string>& arguments);
int RunChat(const std::vector<std::string>& arguments);
int RunRenderChat(const std::vector<std::string>& arguments);

}  // namespace baton::cli

// For tests: a process that has run out of file descriptors.
#pragma once

#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/sanitized.h"

namespace baton::http::test {

// UBSan, which comes with ASan here, looks at objects through a pipe: without a descriptor it takes every
// one for a wrong one.
#ifdef BATON_SANITIZED
inline constexpr bool kNeedsDescriptors = true;
#else
inline constexpr bool kNeedsDescriptors = false;
#endif

// While it lives this process gets no new descriptor; those that it closes come back.
class NoDescriptors {
 public:
  NoDescriptors() {
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
    const int lowest = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    EXPECT_GE(lowest, 0);
    ::close(lowest);
    rlimit none = before_;
    none.rlim_cur = static_cast<rlim_t>(lowest);
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
    Refill();
  }
  ~NoDescriptors() {
    for (const int fd : fillers_) ::close(fd);
    (void)::setrlimit(RLIMIT_NOFILE, &before_);
  }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;

  // Takes away what came back.
  void Refill() {
    for (int fd; (fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) fillers_.push_back(fd);
  }

 private:
  rlimit before_{};
  std::vector<int> fillers_;
};

}  // namespace baton::http::test

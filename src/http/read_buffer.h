// Bytes that have come from a socket and wait for their parser. Starts small and grows on demand,
// because a server keeps one for each of thousands of quiet connections. Not thread-safe.
#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <string_view>

namespace baton::http {

class ReadBuffer {
 public:
  static constexpr size_t kInitialBytes = 8 << 10;

  std::string_view data() const { return {bytes_.get() + begin_, end_ - begin_}; }
  bool empty() const { return begin_ == end_; }
  size_t size() const { return end_ - begin_; }

  // Room for a read: at least one byte, unless `max_bytes` are held already. Moves or grows the
  // storage, so views and earlier spans end here.
  std::span<char> Prepare(size_t max_bytes) {
    if (begin_ == end_) begin_ = end_ = 0;
    if (!bytes_) Grow(kInitialBytes);
    if (end_ == capacity_ && begin_ > 0) {
      std::memmove(bytes_.get(), bytes_.get() + begin_, size());
      end_ -= begin_;
      begin_ = 0;
    }
    if (end_ == capacity_ && capacity_ < max_bytes) Grow(std::min(capacity_ * 2, max_bytes));
    return {bytes_.get() + end_, capacity_ - end_};
  }
  void Commit(size_t n) { end_ += n; }
  void Consume(size_t n) { begin_ += n; }

  // Gives back storage that a large message made necessary. Only while nothing is held and no read
  // is under way.
  void Shrink() {
    if (capacity_ <= kInitialBytes || !empty()) return;
    bytes_.reset();
    begin_ = end_ = capacity_ = 0;
  }

 private:
  void Grow(size_t capacity) {
    auto bigger = std::make_unique_for_overwrite<char[]>(capacity);
    if (bytes_) std::memcpy(bigger.get(), bytes_.get() + begin_, size());
    end_ -= begin_;
    begin_ = 0;
    bytes_ = std::move(bigger);
    capacity_ = capacity;
  }

  std::unique_ptr<char[]> bytes_;
  size_t capacity_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace baton::http

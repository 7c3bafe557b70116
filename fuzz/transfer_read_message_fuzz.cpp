// What a peer of the read fabric may send. Whatever was taken for an order lies inside of the message.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "transfer/libfabric/read_messages.h"

using namespace baton::transfer::reads;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span message(reinterpret_cast<const std::byte*>(data), size);
  const Kind kind = KindOf(message);
  if (kind == Kind::kAnswer && size != sizeof(Answer)) std::abort();
  if (kind != Kind::kOrder) return 0;
  if (size > sizeof(Order)) std::abort();
  Order order;
  std::memcpy(static_cast<void*>(&order), data, size);
  if (order.header.pieces == 0 || OrderBytes(order.header.pieces) != size) std::abort();
  if (order.address_bytes == 0 || order.address_bytes > sizeof order.address) std::abort();
  return 0;
}

// A MemoryKey in the messages between engines: u64 base, u64 key.
#pragma once

#include "common/bytes.h"
#include "transfer/fabric.h"

namespace baton::transfer {

inline void PutKey(ByteWriter& writer, const MemoryKey& key) {
  writer.Put(key.base);
  writer.Put(key.key);
}

inline MemoryKey GetKey(ByteReader& reader) {
  MemoryKey key;
  key.base = reader.Get<uint64_t>();
  key.key = reader.Get<uint64_t>();
  return key;
}

}  // namespace baton::transfer

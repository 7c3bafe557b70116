// hwloc's XML: as much of it as tells where PCI devices are.
//
// XML is read as a flat sequence of tags; text between them is of no interest, and nothing recurses,
// so that depth is bounded by a number.
#include <bit>
#include <charconv>
#include <cstdlib>

#include "common/mapped_file.h"
#include "transfer/topology/pci_function.h"

namespace baton::transfer {
namespace {

constexpr size_t kMaxBytes = size_t{64} << 20;
constexpr size_t kMaxDepth = 256;

struct Tag {
  std::string_view name, attributes;
  bool closes = false;  // </name>
  bool empty = false;   // <name/>
};

// Value of `key` as written. hwloc escapes only what names of devices do not hold.
std::string_view Attribute(const Tag& tag, std::string_view key) {
  std::string_view rest = tag.attributes;
  while (!rest.empty()) {
    const size_t equals = rest.find('=');
    const size_t open = rest.find_first_of("\"'", equals == std::string_view::npos ? rest.size() : equals);
    if (open == std::string_view::npos) return {};
    const size_t close = rest.find(rest[open], open + 1);
    if (close == std::string_view::npos) return {};
    std::string_view name = rest.substr(0, equals);
    name.remove_prefix(std::min(name.find_first_not_of(" \t\r\n"), name.size()));
    name = name.substr(0, name.find_first_of(" \t\r\n"));
    if (name == key) return rest.substr(open + 1, close - open - 1);
    rest.remove_prefix(close + 1);
  }
  return {};
}

class TagScanner {
 public:
  explicit TagScanner(std::string_view xml) : xml_(xml) {}

  // false at the end or at an error.
  bool Next(Tag& tag) {
    while (true) {
      at_ = xml_.find('<', at_);
      if (at_ == std::string_view::npos) return false;
      const std::string_view rest = xml_.substr(at_);
      const std::string_view until = rest.starts_with("<!--") ? "-->" : rest.starts_with("<?") ? "?>" : "";
      if (until.empty() && !rest.starts_with("<!")) return Read(tag);
      const size_t end = xml_.find(until.empty() ? ">" : until, at_ + (until == "-->" ? 4 : 2));
      if (end == std::string_view::npos) return Fail();
      at_ = end;
    }
  }
  bool failed() const { return failed_; }
  size_t offset() const { return std::min(at_, xml_.size()); }

 private:
  bool Fail() { return !(failed_ = true); }

  bool Read(Tag& tag) {
    size_t end = at_ + 1;
    for (char quote = 0; end < xml_.size() && (quote || xml_[end] != '>'); ++end) {
      if (quote ? xml_[end] == quote : xml_[end] == '"' || xml_[end] == '\'') quote = quote ? 0 : xml_[end];
    }
    if (end >= xml_.size()) return Fail();
    std::string_view body = xml_.substr(at_ + 1, end - at_ - 1);
    tag = {};
    tag.closes = body.starts_with('/');
    if (tag.closes) body.remove_prefix(1);
    tag.empty = body.ends_with('/');
    if (tag.empty) body.remove_suffix(1);
    const size_t space = std::min(body.find_first_of(" \t\r\n"), body.size());
    tag.name = body.substr(0, space);
    tag.attributes = body.substr(space);
    at_ = end + 1;
    return true;
  }

  std::string_view xml_;
  size_t at_ = 0;
  bool failed_ = false;
};

uint16_t HexOf(std::string_view text) {
  uint32_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return static_cast<uint16_t>(value);
}

// "0x00000002", "0x00000001,,0x0": the node of a set with one; -1 otherwise. 32 bits a word, the
// highest first.
int OnlyNode(std::string_view nodeset) {
  int node = -1, count = 0;
  uint32_t words = 1;
  for (const char c : nodeset) words += c == ',';
  while (words-- > 0) {
    const std::string_view word = nodeset.substr(0, nodeset.find(','));
    uint32_t bits = 0;
    const std::string_view digits = word.starts_with("0x") ? word.substr(2) : word;
    std::from_chars(digits.data(), digits.data() + digits.size(), bits, 16);
    if (bits != 0) node = static_cast<int>(words * 32) + std::countr_zero(bits);
    count += std::popcount(bits);
    nodeset.remove_prefix(std::min(word.size() + 1, nodeset.size()));
  }
  return count == 1 ? node : -1;
}

// What an open <object> means to those inside of it.
struct Level {
  int numa_node = -1;
  size_t bridges = 0;       // of the path
  int function = -1;        // index of the PCI device that it is
};

class Reader {
 public:
  std::vector<PciFunction> functions;

  void Open(const Tag& tag) {
    const std::string_view type = Attribute(tag, "type");
    Level level = levels_.empty() ? Level{} : levels_.back();
    path_.resize(level.bridges);
    if (const std::string_view nodes = Attribute(tag, "nodeset"); !nodes.empty()) level.numa_node = OnlyNode(nodes);
    if (type == "Bridge") OpenBridge(tag);
    if (type == "PCIDev") level.function = AddFunction(tag, level.numa_node);
    if (type == "OSDev" && level.function >= 0) NameFunction(tag, functions[level.function]);
    level.bridges = path_.size();
    levels_.push_back(level);
  }
  void Close() { levels_.pop_back(); }
  size_t depth() const { return levels_.size(); }

 private:
  void OpenBridge(const Tag& tag) {
    std::string_view id = Attribute(tag, "pci_busid");
    if (!id.empty()) {
      path_.emplace_back(id);
      return;
    }
    // A host bridge: "0000:[44-5c]" holds the buses from 44 on, and is pci0000:44 in sysfs.
    const std::string_view buses = Attribute(tag, "bridge_pci");
    const size_t open = buses.find('[');
    const std::string_view first = open == std::string_view::npos ? "" : buses.substr(open + 1, 2);
    path_.push_back(fmt::format("pci{}{}", buses.substr(0, std::min(open, buses.size())), first));
  }

  // pci_type="0302 [10de:2330] [10de:16c1] a1"
  int AddFunction(const Tag& tag, int numa_node) {
    const auto address = PciAddress::Parse(Attribute(tag, "pci_busid"));
    const std::string_view type = Attribute(tag, "pci_type");
    if (!address || type.size() < 16) return -1;
    PciFunction f;
    f.address = *address;
    f.class_code = HexOf(type.substr(0, 4));
    f.vendor = HexOf(type.substr(6, 4));
    f.device = HexOf(type.substr(11, 4));
    f.numa_node = numa_node;
    f.pci_gbps = 8 * std::strtod(std::string(Attribute(tag, "pci_link_speed")).c_str(), nullptr);  // GB/s
    f.bridges = path_;
    functions.push_back(std::move(f));
    return static_cast<int>(functions.size() - 1);
  }

  // Network and verbs device of one card may share the card; 3 is hwloc's number for verbs, but
  // version 3 of it counts anew.
  static void NameFunction(const Tag& tag, PciFunction& f) {
    const std::string_view kind = Attribute(tag, "osdev_type"), name = Attribute(tag, "name");
    const bool verbs = kind == "3" || name.starts_with("rdma") || name.starts_with("efa_") || name.starts_with("mlx5_");
    if (verbs && f.verbs_name.empty()) f.verbs_name = std::string(name);
  }

  std::vector<Level> levels_;
  std::vector<std::string> path_;
};

}  // namespace

Result<Topology> ParseHwlocXml(std::string_view xml, std::string source) {
  const auto corrupt = [&](size_t offset, std::string_view what) {
    return Error(Code::kDataCorrupt, "{}: not a topology of hwloc (lstopo --of xml): {} at byte {}", source, what, offset);
  };
  TagScanner scanner(xml);
  Reader reader;
  Tag tag;
  bool topology = false;
  while (scanner.Next(tag)) {
    if (tag.name == "topology") topology = true;
    if (tag.name != "object") continue;
    if (tag.closes) {
      if (reader.depth() == 0) return corrupt(scanner.offset(), "an end without a beginning");
      reader.Close();
      continue;
    }
    if (reader.depth() == kMaxDepth) return corrupt(scanner.offset(), "objects nested too deep");
    reader.Open(tag);
    if (tag.empty) reader.Close();
  }
  if (scanner.failed()) return corrupt(scanner.offset(), "a tag that does not end");
  if (!topology) return corrupt(0, "no <topology>");
  if (reader.depth() != 0) return corrupt(xml.size(), "an object that does not end");
  return Select(std::move(reader.functions), std::move(source));
}

Result<Topology> ReadHwlocXml(const std::string& path) {
  const Result<MappedFile> file = MappedFile::Open(path);
  if (!file.ok()) return file.status();
  const std::span<const std::byte> bytes = file->bytes();
  if (bytes.size() > kMaxBytes) return Error(Code::kInvalidArgument, "{} is over 64 MiB: not a topology", path);
  return ParseHwlocXml({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

}  // namespace baton::transfer

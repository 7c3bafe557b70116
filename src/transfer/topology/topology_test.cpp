// Cards of GPUs on captured machines, on made sysfs trees, and on random ones.
#include "transfer/topology/topology.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>

#include <unistd.h>

#include <gtest/gtest.h>

namespace baton::transfer {
namespace {

namespace fs = std::filesystem;

Topology Capture(const std::string& name) {
  const Result<Topology> read = ReadHwlocXml(BATON_SOURCE_DIR "/tests/golden/topology/" + name);
  EXPECT_TRUE(read.ok()) << read.status().ToString();
  return read.ok() ? *read : Topology{};
}

// How many cards each GPU has, how many GPUs each card.
struct Shares {
  std::multiset<size_t> of_gpus, of_nics;
};
Shares SharesOf(const Topology& t) {
  Shares out;
  std::map<uint32_t, size_t> users;
  for (const auto& nics : Assign(t).nics_of_gpu) {
    out.of_gpus.insert(nics.size());
    for (const uint32_t nic : nics) ++users[nic];
  }
  for (const auto& [nic, count] : users) out.of_nics.insert(count);
  return out;
}

std::multiset<size_t> Times(size_t count, size_t value) {
  std::multiset<size_t> out;
  while (count-- > 0) out.insert(value);
  return out;
}

struct Card {
  std::string verbs, state = "4: ACTIVE", rate = "100 Gb/sec (4X EDR)";
};

// A folder like /, with a PCI tree under sys.
class SysfsTree {
 public:
  SysfsTree() {
    static int serial = 0;
    root_ = fs::temp_directory_path() / fmt::format("baton_topology_{}_{}", ::getpid(), serial++);
    fs::create_directories(root_ / "sys/bus/pci/devices");
  }
  ~SysfsTree() { fs::remove_all(root_); }

  // Folder of the device, below its bridges.
  fs::path Add(const std::vector<std::string>& bridges, const std::string& address, const char* class_code,
               uint32_t vendor, uint32_t device, int numa, const Card& card = {}) {
    fs::path place = "devices";
    for (const std::string& bridge : bridges) place /= bridge;
    place /= address;
    const fs::path folder = root_ / "sys" / place;
    fs::create_directories(folder);
    fs::create_directory_symlink(fs::path("../../..") / place, root_ / "sys/bus/pci/devices" / address);
    Write(folder / "class", class_code);
    Write(folder / "vendor", fmt::format("0x{:04x}", vendor));
    Write(folder / "device", fmt::format("0x{:04x}", device));
    Write(folder / "numa_node", std::to_string(numa));
    if (!card.verbs.empty()) {
      const fs::path port = folder / "infiniband" / card.verbs / "ports/1";
      fs::create_directories(port);
      Write(port / "state", card.state);
      Write(port / "rate", card.rate);
    }
    return folder;
  }
  fs::path AddGpu(const std::vector<std::string>& bridges, const std::string& address, int numa) {
    return Add(bridges, address, "0x030200", 0x10de, 0x2335, numa);
  }
  fs::path AddEfa(const std::vector<std::string>& bridges, const std::string& address, int numa, const Card& card) {
    return Add(bridges, address, "0x020000", 0x1d0f, 0xefa2, numa, card);
  }
  // The same machine as a capture shows it.
  void AddAll(const Topology& t) {
    for (const auto* list : {&t.gpus, &t.nics})
      for (const PciDevice& d : *list)
        Add(d.bridges, d.address.ToString(), d.kind == PciDevice::Kind::kGpu ? "0x030200" : "0x020000", d.vendor,
            d.device, d.numa_node, {d.name});
  }

  Topology Read() const {
    const Result<Topology> read = ReadSysfsTopology(root_.string());
    EXPECT_TRUE(read.ok()) << read.status().ToString();
    return read.ok() ? *read : Topology{};
  }

 private:
  static void Write(const fs::path& path, const std::string& text) { std::ofstream(path) << text << '\n'; }
  fs::path root_;
};

struct Machine {
  const char* file;
  size_t gpus, nics;
  std::multiset<size_t> of_gpus, of_nics;
};
std::vector<Machine> Machines() {
  return {{"g5.48xl.xml", 8, 1, Times(8, 1), {8}},
          {"p4d.24xl.xml", 8, 4, Times(8, 1), Times(4, 2)},
          {"p5.48xl.xml", 8, 32, Times(8, 4), Times(32, 1)},
          {"p5en.48xl.xml", 8, 16, Times(8, 2), Times(16, 1)},
          {"p6-b200.48xl.xml", 8, 8, Times(8, 1), Times(8, 1)}};
}

// A GPU's cards hang below the bridge that it shares with them: no farther than any other card.
size_t CommonBridges(const PciDevice& a, const PciDevice& b) {
  size_t n = 0;
  while (n < std::min(a.bridges.size(), b.bridges.size()) && a.bridges[n] == b.bridges[n]) ++n;
  return n;
}

TEST(Topology, CapturedMachinesShareTheirCardsOut) {
  for (const Machine& m : Machines()) {
    SCOPED_TRACE(m.file);
    const Topology t = Capture(m.file);
    ASSERT_EQ(t.gpus.size(), m.gpus);
    ASSERT_EQ(t.nics.size(), m.nics);
    EXPECT_TRUE(HasEfa(t));
    EXPECT_EQ(SharesOf(t).of_gpus, m.of_gpus);
    EXPECT_EQ(SharesOf(t).of_nics, m.of_nics);
    const Affinity affinity = Assign(t);
    EXPECT_TRUE(affinity.spare.empty());
    for (size_t gpu = 0; gpu < t.gpus.size(); ++gpu) {
      size_t nearest = 0;
      for (const PciDevice& nic : t.nics) nearest = std::max(nearest, CommonBridges(t.gpus[gpu], nic));
      for (const uint32_t nic : affinity.nics_of_gpu[gpu])
        EXPECT_EQ(CommonBridges(t.gpus[gpu], t.nics[nic]), nearest) << gpu;
    }
    for (const PciDevice& nic : t.nics) EXPECT_TRUE(nic.name.starts_with("rdmap")) << nic.name;
  }
}

TEST(Topology, SysfsOfTheSameMachinesGivesTheSame) {
  for (const Machine& m : Machines()) {
    SCOPED_TRACE(m.file);
    const Topology captured = Capture(m.file);
    SysfsTree tree;
    tree.AddAll(captured);
    const Topology read = tree.Read();
    ASSERT_EQ(read.nics.size(), captured.nics.size());
    for (size_t i = 0; i < read.nics.size(); ++i) {
      EXPECT_EQ(read.nics[i].name, captured.nics[i].name);
      EXPECT_EQ(read.nics[i].bridges, captured.nics[i].bridges);
      EXPECT_EQ(read.nics[i].numa_node, captured.nics[i].numa_node);
      EXPECT_EQ(read.nics[i].port_gbps, 100);
    }
    EXPECT_EQ(Assign(read).nics_of_gpu, Assign(captured).nics_of_gpu);
  }
}

// A capture knows the PCI link only: on p5 that is 126 Gbit/s, where the card's port has 100.
TEST(Topology, ThePciLinkIsNotTakenForThePort) {
  const Topology captured = Capture("p5.48xl.xml");
  for (const PciDevice& nic : captured.nics) {
    EXPECT_EQ(nic.port_gbps, 0);
    EXPECT_NEAR(nic.pci_gbps, 126, 0.1);
  }
  EXPECT_NE(captured.Describe().find("port_gbps=unknown pci_gbps=126 up"), std::string::npos) << captured.Describe();
  SysfsTree tree;
  tree.AddAll(captured);
  EXPECT_NE(tree.Read().Describe().find("port_gbps=100 pci_gbps=unknown up"), std::string::npos);
}

TEST(Topology, GpusAreFoundByPciAddressInAnySpelling) {
  const Topology t = Capture("p5en.48xl.xml");
  const std::vector<std::string> nics = AffineNics(t, "0000:59:00.0");
  EXPECT_EQ(nics.size(), 2u);
  EXPECT_EQ(AffineNics(t, "00000000:59:00.0"), nics);
  EXPECT_EQ(AffineNics(t, "59:00.0"), nics);
  EXPECT_EQ(AffineNics(t, "0000:5A:00.0"), AffineNics(t, "0000:5a:00.0"));
  EXPECT_NE(AffineNics(t, "0000:5a:00.0"), nics);
  for (const char* unknown : {"0000:ff:00.0", "", "GPU-1", "0000:59:00", "x:59:00.0"})
    EXPECT_EQ(AffineNics(t, unknown).size(), 16u) << unknown;
}

TEST(Topology, MemoryUsesTheCardsOfItsNumaNode) {
  const Topology t = Capture("p5en.48xl.xml");
  const std::vector<std::string> first = NumaNics(t, 0), second = NumaNics(t, 1);
  EXPECT_EQ(first.size(), 8u);
  EXPECT_EQ(second.size(), 8u);
  EXPECT_EQ(NumaNics(t, -1).size(), 16u);
  EXPECT_EQ(NumaNics(t, 7).size(), 16u);
  // One host bridge for both packages: no card says where it is.
  EXPECT_EQ(NumaNics(Capture("g5.48xl.xml"), 1), std::vector<std::string>{"rdmap0s21"});
  int here = 0;
  const std::vector<std::string> rails = AutomaticRails(t, {reinterpret_cast<std::byte*>(&here), sizeof here});
  EXPECT_EQ(rails, NumaNics(t, NumaNodeOf(&here)));
  EXPECT_EQ(AutomaticRails(t, {nullptr, 0, DeviceKind::kCuda, 3}, "0000:59:00.0"), AffineNics(t, "0000:59:00.0"));
}

TEST(Topology, CardsOfOtherFabricsAreLeftOutBesideEfa) {
  for (const PciDevice& nic : Capture("p6-b200.48xl.xml").nics) EXPECT_TRUE(nic.is_efa());
}

// Two GPUs and two NICs per switch, eight of each: p6-b300 has this, with 16 cards.
TEST(Topology, MadeMachines) {
  const auto machine = [](int switches, int gpus, int nics, uint32_t gpu_vendor, uint32_t gpu_device, uint32_t nic_device) {
    SysfsTree tree;
    for (int s = 0; s < switches; ++s) {
      const std::string root = fmt::format("pci0000:{:02x}", 0x10 * (s + 1));
      const std::string port = fmt::format("0000:{:02x}:00.0", 0x10 * (s + 1));
      for (int g = 0; g < gpus; ++g)
        tree.Add({root, port, fmt::format("0000:{:02x}:00.{}", 0x10 * (s + 1) + 1, g)}, fmt::format("0000:{:02x}:00.0", 0x10 * (s + 1) + 2 + g),
                 gpu_vendor == 0x1d0f ? "0x088000" : "0x030200", gpu_vendor, gpu_device, s * 2 / switches);
      for (int n = 0; n < nics; ++n)
        tree.Add({root, port, fmt::format("0000:{:02x}:01.{}", 0x10 * (s + 1) + 1, n)}, fmt::format("0000:{:02x}:00.0", 0x10 * (s + 1) + 8 + n),
                 "0x020000", 0x1d0f, nic_device, s * 2 / switches, {fmt::format("rdmap{}s0", 0x10 * (s + 1) + 8 + n)});
    }
    return tree.Read();
  };
  // p6-b300: 16 cards, two for each of 8 GPUs; the device id is one that nobody has seen yet.
  EXPECT_EQ(SharesOf(machine(4, 2, 4, 0x10de, 0x3182, 0xefa4)).of_gpus, Times(8, 2));
  // p4de as p4d; g6e: 4 cards, 8 GPUs; trn1: 8 cards, 16 chips; trn1n and trn2: 16 and 16.
  EXPECT_EQ(SharesOf(machine(4, 2, 1, 0x10de, 0x20b2, 0xefa1)).of_nics, Times(4, 2));
  EXPECT_EQ(SharesOf(machine(2, 4, 2, 0x10de, 0x26b9, 0xefa2)).of_nics, Times(4, 2));
  EXPECT_EQ(SharesOf(machine(8, 2, 1, 0x1d0f, 0x7164, 0xefa1)).of_gpus, Times(16, 1));
  EXPECT_EQ(SharesOf(machine(8, 2, 2, 0x1d0f, 0x7364, 0xefa2)).of_nics, Times(16, 1));
  // Counts that do not divide: 3 cards for 2 GPUs, 2 cards for 3 GPUs.
  EXPECT_EQ(SharesOf(machine(1, 2, 3, 0x10de, 0x2335, 0xefa2)).of_gpus, (std::multiset<size_t>{1, 2}));
  EXPECT_EQ(SharesOf(machine(1, 3, 2, 0x10de, 0x2335, 0xefa2)).of_nics, (std::multiset<size_t>{1, 2}));
  // No GPU, no card.
  const Topology no_gpu = machine(2, 0, 2, 0x10de, 0x2335, 0xefa2);
  EXPECT_EQ(AffineNics(no_gpu, "0000:12:00.0").size(), 4u);
  EXPECT_EQ(NumaNics(no_gpu, 1).size(), 2u);
  const Topology no_nic = machine(2, 2, 0, 0x10de, 0x2335, 0xefa2);
  EXPECT_EQ(SharesOf(no_nic).of_gpus, Times(4, 0));
  EXPECT_TRUE(AffineNics(no_nic, "0000:12:00.0").empty());
  EXPECT_FALSE(HasEfa(no_nic));
}

// Every function in a PCI domain of its own, as some hypervisors show them: NUMA is all that is common.
TEST(Topology, WithoutCommonBridgesTheNumaNodeDecides) {
  SysfsTree tree;
  for (int i = 0; i < 8; ++i) {
    tree.AddGpu({fmt::format("pci{:04x}:00", i + 1)}, fmt::format("{:04x}:00:00.0", i + 1), i / 4);
    tree.Add({fmt::format("pci{:04x}:00", i + 0x101)}, fmt::format("{:04x}:00:02.0", i + 0x101), "0x020700", 0x15b3, 0x101e, i / 4,
             {fmt::format("mlx5_{}", i)});
  }
  const Topology t = tree.Read();
  EXPECT_EQ(SharesOf(t).of_gpus, Times(8, 1));
  EXPECT_EQ(SharesOf(t).of_nics, Times(8, 1));
  for (int i = 0; i < 8; ++i) {
    const std::vector<std::string> nics = AffineNics(t, fmt::format("{:04x}:00:00.0", i + 1));
    ASSERT_EQ(nics.size(), 1u);
    EXPECT_EQ((nics[0].back() - '0') / 4, i / 4);
  }
}

TEST(Topology, FarCardsFillGapsOnly) {
  SysfsTree tree;
  tree.AddGpu({"pci0000:10"}, "0000:10:1c.0", 0);
  tree.AddEfa({"pci0000:10"}, "0000:10:1b.0", 0, {"near"});
  tree.AddGpu({"pci0000:20"}, "0000:20:1c.0", 0);
  tree.AddEfa({"pci0000:30"}, "0000:30:1b.0", 0, {"same_node"});
  tree.AddEfa({"pci0000:80"}, "0000:80:1b.0", 1, {"other_node"});
  const Topology t = tree.Read();
  EXPECT_EQ(AffineNics(t, "0000:10:1c.0"), std::vector<std::string>{"near"});
  EXPECT_EQ(AffineNics(t, "0000:20:1c.0"), std::vector<std::string>{"same_node"});
  ASSERT_EQ(Assign(t).spare.size(), 1u);
  EXPECT_EQ(t.nics[Assign(t).spare[0]].name, "other_node");
  EXPECT_NE(t.Describe().find("spare nics=[other_node]"), std::string::npos) << t.Describe();
}

TEST(Topology, WhatCannotBeUsedIsLeftOut) {
  SysfsTree tree;
  tree.AddGpu({"pci0000:10"}, "0000:10:1c.0", 0);
  tree.Add({"pci0000:10"}, "0000:10:02.0", "0x030000", 0x1a03, 0x2000, 0);   // a management chip's display
  tree.Add({"pci0000:10"}, "0000:10:03.0", "0x068000", 0x10de, 0x22a3, 0);   // an NVSwitch
  tree.Add({"pci0000:10"}, "0000:10:04.0", "0x020000", 0x1d0f, 0xec20, 0);   // ENA
  tree.Add({"pci0000:10"}, "0000:10:05.0", "0x020000", 0x15b3, 0x1021, 0, {"mlx5_0", "4: ACTIVE", "400 Gb/sec (4X NDR)"});
  tree.Add({"pci0000:10"}, "0000:10:06.0", "0x020000", 0x15b3, 0x1021, 0, {"mlx5_1", "1: DOWN"});
  fs::create_directory_symlink("../0000:10:05.0",
                               tree.Add({"pci0000:10"}, "0000:10:07.1", "0x020000", 0x15b3, 0x101e, 0, {"mlx5_2"}) / "physfn");
  fs::create_directory_symlink("../0000:10:1c.0", tree.AddGpu({"pci0000:10"}, "0000:10:1c.1", 0) / "physfn");
  const Topology t = tree.Read();
  ASSERT_EQ(t.gpus.size(), 1u);
  ASSERT_EQ(t.nics.size(), 2u);
  EXPECT_EQ(t.nics[0].port_gbps, 400);
  EXPECT_FALSE(t.nics[1].up);
  EXPECT_EQ(AffineNics(t, "0000:10:1c.0"), std::vector<std::string>{"mlx5_0"});
  EXPECT_EQ(NumaNics(t, 0), std::vector<std::string>{"mlx5_0"});
}

TEST(Topology, WithoutSysfsTheFolderIsNamed) {
  const Result<Topology> read = ReadSysfsTopology("/nonexistent");
  ASSERT_EQ(read.status().code(), Code::kNotFound);
  EXPECT_NE(read.status().message().find("/nonexistent/sys"), std::string::npos);
}

TEST(Topology, BrokenCapturesAreRefused) {
  for (const char* text : {"", "<html></html>", "<topology><object type=\"Machine\">", "<topology></object></topology>",
                           "<topology><object type=\"Machine", "<topology><!-- "}) {
    const Result<Topology> read = ParseHwlocXml(text, "test.xml");
    ASSERT_FALSE(read.ok()) << text;
    EXPECT_EQ(read.status().code(), Code::kDataCorrupt);
    EXPECT_NE(read.status().message().find("test.xml"), std::string::npos);
  }
  std::string deep = "<topology>";
  for (int i = 0; i < 100000; ++i) deep += "<object type='Group'>";
  EXPECT_FALSE(ParseHwlocXml(deep, "deep").ok());
  EXPECT_EQ(ReadHwlocXml("/nonexistent.xml").status().code(), Code::kNotFound);
}

// Version 1 of the format: bridges inside of NUMA nodes, other quotes, comments with tags in them.
TEST(Topology, OlderXmlIsRead) {
  const Result<Topology> t = ParseHwlocXml(R"(<?xml version='1.0'?><!DOCTYPE topology SYSTEM "hwloc.dtd">
    <topology><!-- <object type="x"> --><object type='Machine' nodeset="0x00000003">
    <object type="NUMANode" os_index="1" nodeset="0x00000002">
      <object type="Bridge" bridge_type="0-1" bridge_pci="0001:[80-83]">
        <object type="Bridge" pci_busid="0001:80:01.0" bridge_type="1-1">
          <object type="PCIDev" pci_busid="0001:81:00.0" pci_type="0207 [15b3:1021] [0000:0000] 00">
            <object type="OSDev" name="ib0" osdev_type="2"/><object type="OSDev" name="mlx5_0" osdev_type="3"/></object>
          <object type="PCIDev" pci_busid="0001:82:00.0" pci_type="0302 [10de:2330] [10de:16c1] a1" pci_link_speed="63.0"/>
        </object></object></object></object></topology>)", "old");
  ASSERT_TRUE(t.ok()) << t.status().ToString();
  ASSERT_EQ(t->gpus.size(), 1u);
  EXPECT_EQ(t->gpus[0].numa_node, 1);
  EXPECT_EQ(t->gpus[0].pci_gbps, 504);
  EXPECT_EQ(t->gpus[0].port_gbps, 0);
  EXPECT_EQ(t->gpus[0].bridges, (std::vector<std::string>{"pci0001:80", "0001:80:01.0"}));
  EXPECT_EQ(AffineNics(*t, "0001:82:00.0"), std::vector<std::string>{"mlx5_0"});
}

Topology RandomTopology(std::mt19937& random) {
  const auto pick = [&](int n) { return static_cast<int>(random() % n); };
  Topology t;
  const int roots = 1 + pick(4);
  for (int i = 0, count = pick(12) + pick(20); i < count; ++i) {
    PciDevice d;
    const int root = pick(roots);
    d.address = {0, static_cast<uint8_t>(i), 0, 0};
    d.kind = pick(3) ? PciDevice::Kind::kNic : PciDevice::Kind::kGpu;
    d.name = fmt::format("nic{}", i);
    d.numa_node = root % 2 - (roots == 3);
    d.up = pick(10) != 0;
    d.bridges = {fmt::format("pci0000:{:02x}", root)};
    for (int depth = pick(4); depth > 0; --depth) d.bridges.push_back(fmt::format("b{}", pick(2)));
    (d.kind == PciDevice::Kind::kGpu ? t.gpus : t.nics).push_back(std::move(d));
  }
  return t;
}

bool SharesPci(const PciDevice& a, const PciDevice& b) { return CommonBridges(a, b) > 0; }

TEST(Topology, RandomTreesKeepTheRules) {
  int shared = 0, spare = 0, several = 0;
  for (uint32_t seed = 0; seed < 4000; ++seed) {
    std::mt19937 random(seed);
    const Topology t = RandomTopology(random);
    const Affinity a = Assign(t);
    SCOPED_TRACE(seed);
    std::vector<int> users(t.nics.size());
    bool any_up = false;
    for (const PciDevice& nic : t.nics) any_up |= nic.up;
    ASSERT_EQ(a.nics_of_gpu.size(), t.gpus.size());
    for (size_t g = 0; g < t.gpus.size(); ++g) {
      ASSERT_EQ(!a.nics_of_gpu[g].empty(), any_up);
      for (const uint32_t nic : a.nics_of_gpu[g]) {
        ASSERT_TRUE(t.nics[nic].up);
        ++users[nic];
      }
      several += a.nics_of_gpu[g].size() > 1;
      // Whoever has a card on its own host bridge is not sent to another one.
      const bool near = std::any_of(t.nics.begin(), t.nics.end(), [&](const PciDevice& n) { return n.up && SharesPci(t.gpus[g], n); });
      for (const uint32_t nic : a.nics_of_gpu[g]) ASSERT_EQ(SharesPci(t.gpus[g], t.nics[nic]), near);
    }
    for (uint32_t nic = 0; nic < t.nics.size(); ++nic) {
      const bool is_spare = std::count(a.spare.begin(), a.spare.end(), nic) > 0;
      ASSERT_EQ(is_spare || !t.nics[nic].up, users[nic] == 0) << t.Describe();
      spare += is_spare && !t.gpus.empty();
      // A card next to a GPU is never idle.
      for (const PciDevice& gpu : t.gpus) ASSERT_FALSE(is_spare && SharesPci(gpu, t.nics[nic]));
      if (users[nic] < 2) continue;
      ++shared;
      // Cards are shared only by GPUs that have no other: shares differ by one at most.
      int with_others = 0;
      for (const auto& nics : a.nics_of_gpu)
        with_others += nics.size() > 1 && std::count(nics.begin(), nics.end(), nic);
      ASSERT_LE(with_others, 1);
    }
    // GPUs with the same bridges have shares that differ by at most one.
    for (size_t g = 0; g < t.gpus.size(); ++g)
      for (size_t h = 0; h < g; ++h)
        if (t.gpus[g].bridges == t.gpus[h].bridges) {
          ASSERT_LE(std::max(a.nics_of_gpu[g].size(), a.nics_of_gpu[h].size()) -
                        std::min(a.nics_of_gpu[g].size(), a.nics_of_gpu[h].size()), 1u) << t.Describe();
        }
  }
  EXPECT_GT(shared, 300);
  EXPECT_GT(spare, 300);
  EXPECT_GT(several, 300);
}

}  // namespace
}  // namespace baton::transfer

// Model paths: files, folders, and the hub cache in every place that its variables can put it.
#include "model/hub.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <map>

#include "model/test_files.h"

namespace baton::model {
namespace {

using testing::HasSubstr;

constexpr char kCommit[] = "0123456789abcdef0123456789abcdef01234567";

// Runs with the hub's variables unset and HOME in a folder of its own; puts them back at the end.
class Hub : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : kNames) {
      if (const char* value = std::getenv(name)) saved_[name] = value;
      unsetenv(name);
    }
    setenv("HOME", folder_.path().c_str(), 1);
  }
  void TearDown() override {
    for (const char* name : kNames) {
      if (saved_.contains(name)) setenv(name, saved_[name].c_str(), 1);
      else unsetenv(name);
    }
  }
  // A model in the cache at `cache` (under the test's folder); its snapshot's path.
  std::string AddModel(const std::string& cache, const std::string& repo,
                       const std::string& ref = "main") {
    folder_.Write(cache + "/" + repo + "/refs/" + ref, kCommit);
    const std::string snapshot = cache + "/" + repo + "/snapshots/" + kCommit;
    folder_.Write(snapshot + "/config.json", "{}");
    return folder_ / snapshot;
  }
  static std::string PathOf(const Result<ModelFiles>& files) {
    return files.ok() ? files->path : files.status().ToString();
  }

  static constexpr const char* kNames[] = {"HOME", "HF_HOME", "HF_HUB_CACHE",
                                           "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"};
  std::map<std::string, std::string> saved_;
  TempFolder folder_;
};

TEST_F(Hub, CacheFolderFollowsTheVariablesInOrder) {
  EXPECT_EQ(HubCacheFolder(), folder_ / ".cache/huggingface/hub");
  setenv("XDG_CACHE_HOME", "/x", 1);
  EXPECT_EQ(HubCacheFolder(), "/x/huggingface/hub");
  setenv("HF_HOME", "~/hf", 1);
  EXPECT_EQ(HubCacheFolder(), folder_ / "hf/hub");
  setenv("HUGGINGFACE_HUB_CACHE", "/old", 1);
  EXPECT_EQ(HubCacheFolder(), "/old");
  setenv("HF_HUB_CACHE", "/new", 1);
  EXPECT_EQ(HubCacheFolder(), "/new");
  setenv("HF_HUB_CACHE", "", 1);
  EXPECT_EQ(HubCacheFolder(), "/old");
}

TEST_F(Hub, FindsAModelByIdBranchTagAndCommit) {
  const std::string snapshot = AddModel(".cache/huggingface/hub", "models--org--name");
  AddModel(".cache/huggingface/hub", "models--org--name", "v1.0");
  AddModel(".cache/huggingface/hub", "models--org--name", "refs/pr/3");
  EXPECT_EQ(PathOf(ResolveModel("org/name")), snapshot);
  EXPECT_EQ(PathOf(ResolveModel("org/name@main")), snapshot);
  EXPECT_EQ(PathOf(ResolveModel("org/name@v1.0")), snapshot);
  EXPECT_EQ(PathOf(ResolveModel("org/name", "v1.0")), snapshot);
  EXPECT_EQ(PathOf(ResolveModel("org/name@refs/pr/3")), snapshot);
  EXPECT_EQ(PathOf(ResolveModel(std::string("org/name@") + kCommit)), snapshot);
  const auto files = ResolveModel("org/name");
  EXPECT_EQ(files->format, ModelFormat::kSafetensors);
  EXPECT_EQ(files->folder, snapshot);
}

TEST_F(Hub, FindsIdsWithoutAnOrganisation) {
  const std::string snapshot = AddModel("c", "models--gpt2");
  setenv("HF_HUB_CACHE", (folder_ / "c").c_str(), 1);
  EXPECT_EQ(PathOf(ResolveModel("gpt2")), snapshot);
}

TEST_F(Hub, SnapshotsMayHoldGguf) {
  folder_.Write("c/models--o--n/refs/main", std::string(kCommit) + "\n");
  const std::string file =
      folder_.Write(std::string("c/models--o--n/snapshots/") + kCommit + "/m.gguf", "x");
  setenv("HF_HUB_CACHE", (folder_ / "c").c_str(), 1);
  const auto files = ResolveModel("o/n");
  ASSERT_TRUE(files.ok()) << files.status().message();
  EXPECT_EQ(files->path, file);
  EXPECT_EQ(files->format, ModelFormat::kGguf);
}

TEST_F(Hub, AMissingModelNamesPlacesAndTheCommand) {
  const auto files = ResolveModel("org/name@v2");
  EXPECT_EQ(files.status().code(), Code::kNotFound);
  EXPECT_THAT(files.status().message(), HasSubstr("never downloaded"));
  EXPECT_THAT(files.status().message(), HasSubstr("hf download org/name --revision v2"));
  EXPECT_THAT(files.status().message(), HasSubstr("models--org--name/refs/v2"));
  EXPECT_THAT(files.status().message(), HasSubstr("models--org--name/snapshots/v2"));
}

TEST_F(Hub, HalfFetchedModelsAreNotFound) {
  folder_.Write("c/models--o--n/refs/main", kCommit);
  setenv("HF_HUB_CACHE", (folder_ / "c").c_str(), 1);
  EXPECT_THAT(ResolveModel("o/n").status().message(),
              HasSubstr(std::string("snapshots/") + kCommit));
  folder_.Write("c/models--o--n/refs/main", "../../../etc");
  EXPECT_EQ(ResolveModel("o/n").status().code(), Code::kNotFound);
}

TEST_F(Hub, NothingLeavesTheCache) {
  AddModel("c/sub", "models--o--n");
  folder_.Write("config.json", "{}");
  setenv("HF_HUB_CACHE", (folder_ / "c").c_str(), 1);
  for (const char* id : {"../sub", "o/..", "o/n@../../x", "o/n@/etc", "o/n@", "o/n@a@b", "a/b/c",
                         "o/n@..", "-o/n"}) {
    EXPECT_EQ(ResolveModel(id).status().code(), Code::kNotFound) << id;
  }
  EXPECT_FALSE(ResolveModel("o/n@main", "main").ok());
  EXPECT_EQ(ResolveModel("").status().code(), Code::kInvalidArgument);
}

TEST_F(Hub, FilesAndFolders) {
  const std::string gguf = folder_.Write("one/m.gguf", "x");
  EXPECT_EQ(PathOf(ResolveModel(gguf)), gguf);
  EXPECT_EQ(ResolveModel(gguf)->folder, folder_ / "one");
  EXPECT_EQ(PathOf(ResolveModel(folder_ / "one")), gguf);
  EXPECT_EQ(PathOf(ResolveModel("~/one/m.gguf")), gguf);

  folder_.Write("one/config.json", "{}");  // beside GGUF only, it does not decide
  EXPECT_EQ(PathOf(ResolveModel(folder_ / "one")), gguf);

  folder_.Write("two/a.gguf", "x");
  folder_.Write("two/b.gguf", "x");
  EXPECT_EQ(ResolveModel(folder_ / "two").status().code(), Code::kInvalidArgument);
  EXPECT_THAT(ResolveModel(folder_ / "two").status().message(), HasSubstr("a.gguf, b.gguf"));

  const std::string first = folder_.Write("split/m-00001-of-00003.gguf", "x");
  folder_.Write("split/m-00002-of-00003.gguf", "x");
  folder_.Write("split/m-00003-of-00003.gguf", "x");
  EXPECT_EQ(PathOf(ResolveModel(folder_ / "split")), first);

  folder_.Write("hf/config.json", "{}");
  const std::string tensors = folder_.Write("hf/model.safetensors", "x");
  EXPECT_EQ(PathOf(ResolveModel(folder_ / "hf")), folder_ / "hf");
  EXPECT_EQ(PathOf(ResolveModel(tensors)), folder_ / "hf");

  folder_.Write("empty/readme.txt", "x");
  EXPECT_THAT(ResolveModel(folder_ / "empty").status().message(), HasSubstr("holds no model"));
  EXPECT_THAT(ResolveModel(folder_ / "empty/readme.txt").status().message(),
              HasSubstr("is no model"));
  EXPECT_EQ(ResolveModel(folder_ / "none.gguf").status().code(), Code::kNotFound);
  EXPECT_EQ(ResolveModel("./none.gguf").status().code(), Code::kNotFound);
}

}  // namespace
}  // namespace baton::model

// A libFuzzer harness of slot files: one that a small model wrote, with changes. The input is a
// number of bytes that are cut from its end (two bytes), and then changes: an offset (two bytes)
// and a byte that is put there. Whatever they are, there is an Error of one line, or a sequence
// that goes on.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "runtime/schedule/slot_file.h"
#include "tests/fuzz/use_tokenizer.h"

namespace thermocline {
namespace {

class SavedSlot {
 public:
  SavedSlot() : engine_(Options()) {
    std::string folder = std::filesystem::temp_directory_path() / "slot_fuzz.XXXXXX";
    if (mkdtemp(folder.data()) == nullptr) std::abort();
    folder_ = folder;
    std::vector<int32_t> ids(40);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(3 + i);
    engine_.Feed(ids);
    WriteSlotFile(engine_, engine_.main_sequence(), ids, {}, Path());
    engine_.Reset();
    std::ifstream file(Path(), std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
  }
  ~SavedSlot() { std::filesystem::remove_all(folder_); }
  SavedSlot(const SavedSlot&) = delete;
  SavedSlot& operator=(const SavedSlot&) = delete;

  void Use(const uint8_t* data, size_t size) {
    std::string changed = bytes_;
    const auto number = [&](size_t at) {
      return static_cast<size_t>(data[at] | data[at + 1] << 8);
    };
    if (size >= 2) changed.resize(changed.size() - std::min(changed.size(), number(0)));
    for (size_t at = 2; at + 3 <= size && !changed.empty(); at += 3) {
      changed[number(at) % changed.size()] = static_cast<char>(data[at + 2]);
    }
    std::ofstream(Path(), std::ios::binary) << changed;
    ExpectOneLineErrors([&] {
      const SlotFile file(engine_, Path());
      const int32_t sequence = file.Load(engine_);
      const auto n = static_cast<int64_t>(file.ids().size());
      if (engine_.sequences().length(sequence) != n) std::abort();
      if (n < engine_.context_tokens()) {
        const int32_t next = 3;
        engine_.FeedSequences(std::vector<SequenceInput>{{sequence, {&next, 1}}});
      }
      engine_.sequences().Remove(sequence);
    });
    const KvPagePool& pool = engine_.sequences().pool();
    if (pool.n_free() != pool.n_pages()) std::abort();
  }

 private:
  static EngineOptions Options() {
    EngineOptions options;
    options.model_path = std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/gqa_relu.gguf";
    options.n_threads = 1;
    options.context_tokens = 96;
    return options;
  }
  std::string Path() const { return folder_ + "/fuzzed.slot.gguf"; }

  Engine engine_;
  std::string folder_;
  std::string bytes_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static SavedSlot slot;
  slot.Use(data, size);
  return 0;
}

}  // namespace thermocline

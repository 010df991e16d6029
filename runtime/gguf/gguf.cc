#include "runtime/gguf/gguf.h"

namespace thermocline {

GgufValueKind ValueKindOf(GgufType type) {
  switch (type) {
    case GgufType::kI8:
    case GgufType::kI16:
    case GgufType::kI32:
    case GgufType::kI64:
      return GgufValueKind::kSigned;
    case GgufType::kF32:
    case GgufType::kF64:
      return GgufValueKind::kFloat;
    case GgufType::kBool:
      return GgufValueKind::kBool;
    case GgufType::kString:
      return GgufValueKind::kString;
    case GgufType::kArray:
      return GgufValueKind::kArray;
    default:
      return GgufValueKind::kUnsigned;
  }
}

std::string_view GgufTypeName(GgufType type) {
  constexpr std::string_view kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                         "bool", "string", "array", "u64", "i64", "f64"};
  return kNames[static_cast<uint32_t>(type)];
}

std::string_view GgufMagic(GgufContainer container) {
  return container == GgufContainer::kPowerInfer ? "PWRI" : "GGUF";
}

}  // namespace thermocline

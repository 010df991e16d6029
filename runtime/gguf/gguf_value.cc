#include "runtime/gguf/gguf_value.h"

#include <fmt/format.h>

namespace thermocline {
namespace {

GgufType ReadType(GgufCursor& cursor) {
  const auto id = cursor.read<uint32_t>();
  if (id > static_cast<uint32_t>(GgufType::kF64)) {
    cursor.Fail("unknown value type", "a type id from 0 to 12", fmt::format("{}", id));
  }
  return static_cast<GgufType>(id);
}

// Returns the bytes of an element in the file; for a text the least, its length.
uint64_t ElementBytes(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return 4;
    default:
      return 8;
  }
}

bool ReadBool(GgufCursor& cursor) {
  const auto byte = cursor.read<uint8_t>();
  if (byte > 1) cursor.Fail("a bad boolean", "0 or 1", fmt::format("{}", byte));
  return byte == 1;
}

uint64_t ReadUnsigned(GgufCursor& cursor, GgufType type) {
  switch (type) {
    case GgufType::kU8:
      return cursor.read<uint8_t>();
    case GgufType::kU16:
      return cursor.read<uint16_t>();
    case GgufType::kU32:
      return cursor.read<uint32_t>();
    case GgufType::kBool:
      return ReadBool(cursor) ? 1 : 0;
    default:
      return cursor.read<uint64_t>();
  }
}

int64_t ReadSigned(GgufCursor& cursor, GgufType type) {
  switch (type) {
    case GgufType::kI8:
      return cursor.read<int8_t>();
    case GgufType::kI16:
      return cursor.read<int16_t>();
    case GgufType::kI32:
      return cursor.read<int32_t>();
    default:
      return cursor.read<int64_t>();
  }
}

double ReadFloat(GgufCursor& cursor, GgufType type) {
  return type == GgufType::kF32 ? double{cursor.read<float>()} : cursor.read<double>();
}

template <typename T, typename Read>
std::vector<T> ReadElements(uint64_t count, Read read) {
  std::vector<T> elements;
  elements.reserve(count);
  for (uint64_t i = 0; i < count; ++i) elements.push_back(read());
  return elements;
}

GgufValue ReadArray(GgufCursor& cursor, uint64_t* elements_left) {
  const GgufType type = ReadType(cursor);
  if (type == GgufType::kArray) {
    cursor.Fail("an array of arrays", "an array of numbers or texts", "type id 9", "");
  }
  const auto count = cursor.read<uint64_t>();
  const uint64_t most = cursor.remaining() / ElementBytes(type);
  if (count > most) {
    cursor.Fail("the array is longer than the file", fmt::format("at most {} elements", most),
                fmt::format("{}", count));
  }
  if (count > *elements_left) {
    cursor.Fail("too many array elements",
                fmt::format("at most {} in all arrays of a file", kMaxArrayElements),
                fmt::format("{} in this one", count), "");
  }
  *elements_left -= count;
  GgufValue::Array array;
  switch (ValueKindOf(type)) {
    case GgufValueKind::kSigned:
      array = ReadElements<int64_t>(count, [&] { return ReadSigned(cursor, type); });
      break;
    case GgufValueKind::kFloat:
      array = ReadElements<double>(count, [&] { return ReadFloat(cursor, type); });
      break;
    case GgufValueKind::kString:
      array = ReadElements<std::string>(count, [&] { return cursor.ReadString(kMaxStringBytes); });
      break;
    default:
      array = ReadElements<uint64_t>(count, [&] { return ReadUnsigned(cursor, type); });
  }
  return {GgufType::kArray, type, std::move(array)};
}

}  // namespace

GgufValue ReadGgufValue(GgufCursor& cursor, uint64_t* elements_left) {
  const GgufType type = ReadType(cursor);
  switch (ValueKindOf(type)) {
    case GgufValueKind::kUnsigned:
      return {type, {}, ReadUnsigned(cursor, type)};
    case GgufValueKind::kSigned:
      return {type, {}, ReadSigned(cursor, type)};
    case GgufValueKind::kFloat:
      return {type, {}, ReadFloat(cursor, type)};
    case GgufValueKind::kBool:
      return {type, {}, ReadBool(cursor)};
    case GgufValueKind::kString:
      return {type, {}, cursor.ReadString(kMaxStringBytes)};
    case GgufValueKind::kArray:
      break;
  }
  return ReadArray(cursor, elements_left);
}

}  // namespace thermocline

using System.Buffers.Binary;
using System.Data;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;

namespace Backend.Toolkit.Pagination;

/// <summary>
/// How keys of one type are written into a cursor, read back bit for bit, compared as databases compare them, and given to a database as parameters. Nothing here depends on the culture.
/// </summary>
internal abstract class KeyCodec<TKey>
{
    /// <summary>A part of the keyset's shape: cursors of two codes are never mixed up.</summary>
    public abstract string Code { get; }

    /// <summary>The size of each key in bytes; null: it varies.</summary>
    public abstract int? FixedSize { get; }

    public abstract int Size(TKey key);

    /// <summary>Writes exactly <see cref="Size"/> bytes.</summary>
    public abstract void Write(Span<byte> destination, TKey key);

    /// <summary>The bytes that the key at the start takes; false: it is not one.</summary>
    public abstract bool TryMeasure(ReadOnlySpan<byte> source, out int size);

    /// <summary>Reads what <see cref="TryMeasure"/> found to be a key.</summary>
    public abstract TKey Read(ReadOnlySpan<byte> source);

    public abstract int Compare(TKey left, TKey right);

    /// <summary>The value of a parameter of the column's exact type.</summary>
    public abstract object ToParameter(TKey key, SqlDialect dialect);

    /// <summary>The type of the parameter; null: the provider finds it by the value.</summary>
    public abstract DbType? ParameterType { get; }

    /// <summary>Why a database of this kind would order such keys wrongly; null: it does not.</summary>
    public virtual string? Objection(SqlDialect dialect) => null;
}

internal static class KeyCodec
{
    private delegate void Writer<TKey>(Span<byte> destination, TKey key);

    private delegate TKey Reader<TKey>(ReadOnlySpan<byte> source);

    private static Dictionary<Type, object> Codecs { get; } = new()
    {
        [typeof(bool)] = new Fixed<bool>("bool", 1, static (to, key) => to[0] = key ? (byte)1 : (byte)0, static from => from[0] != 0, DbType.Boolean),
        [typeof(byte)] = new Fixed<byte>("u8", 1, static (to, key) => to[0] = key, static from => from[0], DbType.Int16, static (key, _) => (short)key),
        [typeof(sbyte)] = new Fixed<sbyte>("i8", 1, static (to, key) => to[0] = (byte)key, static from => (sbyte)from[0], DbType.Int16, static (key, _) => (short)key),
        [typeof(short)] = new Fixed<short>("i16", 2, BinaryPrimitives.WriteInt16LittleEndian, BinaryPrimitives.ReadInt16LittleEndian, DbType.Int16),
        [typeof(ushort)] = new Fixed<ushort>("u16", 2, BinaryPrimitives.WriteUInt16LittleEndian, BinaryPrimitives.ReadUInt16LittleEndian, DbType.Int32, static (key, _) => (int)key),
        [typeof(int)] = new Fixed<int>("i32", 4, BinaryPrimitives.WriteInt32LittleEndian, BinaryPrimitives.ReadInt32LittleEndian, DbType.Int32),
        [typeof(uint)] = new Fixed<uint>("u32", 4, BinaryPrimitives.WriteUInt32LittleEndian, BinaryPrimitives.ReadUInt32LittleEndian, DbType.Int64, static (key, _) => (long)key),
        [typeof(long)] = new Fixed<long>("i64", 8, BinaryPrimitives.WriteInt64LittleEndian, BinaryPrimitives.ReadInt64LittleEndian, DbType.Int64),
        [typeof(ulong)] = new Fixed<ulong>("u64", 8, BinaryPrimitives.WriteUInt64LittleEndian, BinaryPrimitives.ReadUInt64LittleEndian, DbType.Decimal, static (key, _) => (decimal)key)
        {
            OnSqlite = "SQLite keeps a ulong as a signed number; order by a long",
        },
        [typeof(char)] = new Fixed<char>("char", 2, static (to, key) => BinaryPrimitives.WriteUInt16LittleEndian(to, key), static from => (char)BinaryPrimitives.ReadUInt16LittleEndian(from), DbType.String, static (key, _) => key.ToString())
        {
            // As a text of one character.
            Comparison = static (left, right) => CodePoints(left) - CodePoints(right),
        },
        [typeof(float)] = new Fixed<float>("f32", 4, BinaryPrimitives.WriteSingleLittleEndian, BinaryPrimitives.ReadSingleLittleEndian, DbType.Single)
        {
            Comparison = static (left, right) => Compare((double)left, right),
        },
        [typeof(double)] = new Fixed<double>("f64", 8, BinaryPrimitives.WriteDoubleLittleEndian, BinaryPrimitives.ReadDoubleLittleEndian, DbType.Double) { Comparison = Compare },
        [typeof(decimal)] = new Fixed<decimal>("dec", 16, WriteDecimal, ReadDecimal, DbType.Decimal)
        {
            // The scale is at most 28, and the bits beside it and the sign are zero.
            Check = static from => from[12] == 0 && from[13] == 0 && from[14] <= 28 && (from[15] & 0x7F) == 0,
            OnSqlite = "SQLite keeps a decimal as text and compares it as such; order by a long of the smallest unit",
        },
        [typeof(Guid)] = new Fixed<Guid>("guid", 16, static (to, key) => key.TryWriteBytes(to, bigEndian: true, out _), static from => new Guid(from[..16], bigEndian: true), DbType.Guid),
        [typeof(DateTime)] = new Fixed<DateTime>("dt", 8, WriteDateTime, ReadDateTime, null)
        {
            Check = static from => (BinaryPrimitives.ReadUInt64LittleEndian(from) & MaskOfTicks) <= (ulong)DateTime.MaxValue.Ticks && BinaryPrimitives.ReadUInt64LittleEndian(from) >> 62 <= 2,
        },
        [typeof(DateTimeOffset)] = new Fixed<DateTimeOffset>("dto", 10, WriteDateTimeOffset, ReadDateTimeOffset, null, static (key, dialect) => dialect == SqlDialect.PostgreSql ? key.ToUniversalTime() : key)
        {
            Check = IsDateTimeOffset,
            OnSqlite = "SQLite keeps a DateTimeOffset as text with its offset and compares it as such; order by a DateTime in UTC, or by a long of ticks",
        },
        [typeof(DateOnly)] = new Fixed<DateOnly>("date", 4, static (to, key) => BinaryPrimitives.WriteInt32LittleEndian(to, key.DayNumber), static from => DateOnly.FromDayNumber(BinaryPrimitives.ReadInt32LittleEndian(from)), null)
        {
            Check = static from => BinaryPrimitives.ReadUInt32LittleEndian(from) <= (uint)DateOnly.MaxValue.DayNumber,
        },
        [typeof(TimeOnly)] = new Fixed<TimeOnly>("time", 8, static (to, key) => BinaryPrimitives.WriteInt64LittleEndian(to, key.Ticks), static from => new TimeOnly(BinaryPrimitives.ReadInt64LittleEndian(from)), null)
        {
            Check = static from => BinaryPrimitives.ReadUInt64LittleEndian(from) <= (ulong)TimeOnly.MaxValue.Ticks,
        },
        [typeof(TimeSpan)] = new Fixed<TimeSpan>("span", 8, static (to, key) => BinaryPrimitives.WriteInt64LittleEndian(to, key.Ticks), static from => new TimeSpan(BinaryPrimitives.ReadInt64LittleEndian(from)), null)
        {
            OnSqlite = "SQLite keeps a TimeSpan as text and compares it as such; order by a long of ticks",
        },
        [typeof(string)] = new Text(),
    };

    private const ulong MaskOfTicks = 0x3FFF_FFFF_FFFF_FFFF;

    /// <returns>Null: keys of this type are not known.</returns>
    public static KeyCodec<TKey>? For<TKey>() => typeof(TKey).IsEnum ? new Enumeration<TKey>() : Codecs.GetValueOrDefault(typeof(TKey)) as KeyCodec<TKey>;

    /// <summary>Where a UTF-16 unit stands when texts are ordered by code point: surrogates come after all else.</summary>
    private static int CodePoints(char unit) => unit < 0xD800 ? unit : unit >= 0xE000 ? unit - 0x800 : unit + 0x2000;

    /// <summary>By code point, as the collations C and BINARY do.</summary>
    public static int Compare(string left, string right)
    {
        int same = left.AsSpan().CommonPrefixLength(right);
        return same < left.Length && same < right.Length ? CodePoints(left[same]) - CodePoints(right[same]) : left.Length.CompareTo(right.Length);
    }

    /// <summary>As PostgreSQL does: NaN is above all else.</summary>
    private static int Compare(double left, double right) =>
        double.IsNaN(left) ? (double.IsNaN(right) ? 0 : 1) : double.IsNaN(right) ? -1 : left.CompareTo(right);

    private static void WriteDecimal(Span<byte> to, decimal key)
    {
        Span<int> bits = stackalloc int[4];
        decimal.GetBits(key, bits);
        for (int i = 0; i < 4; i++)
        {
            BinaryPrimitives.WriteInt32LittleEndian(to[(4 * i)..], bits[i]);
        }
    }

    private static decimal ReadDecimal(ReadOnlySpan<byte> from)
    {
        Span<int> bits = stackalloc int[4];
        for (int i = 0; i < 4; i++)
        {
            bits[i] = BinaryPrimitives.ReadInt32LittleEndian(from[(4 * i)..]);
        }

        return new decimal(bits);
    }

    private static void WriteDateTime(Span<byte> to, DateTime key) => BinaryPrimitives.WriteUInt64LittleEndian(to, (ulong)key.Ticks | ((ulong)key.Kind << 62));

    private static DateTime ReadDateTime(ReadOnlySpan<byte> from)
    {
        ulong bits = BinaryPrimitives.ReadUInt64LittleEndian(from);
        return new DateTime((long)(bits & MaskOfTicks), (DateTimeKind)(bits >> 62));
    }

    private static void WriteDateTimeOffset(Span<byte> to, DateTimeOffset key)
    {
        BinaryPrimitives.WriteInt64LittleEndian(to, key.Ticks);
        BinaryPrimitives.WriteInt16LittleEndian(to[8..], (short)key.TotalOffsetMinutes);
    }

    private static DateTimeOffset ReadDateTimeOffset(ReadOnlySpan<byte> from) =>
        new(BinaryPrimitives.ReadInt64LittleEndian(from), new TimeSpan(BinaryPrimitives.ReadInt16LittleEndian(from[8..]) * TimeSpan.TicksPerMinute));

    private static bool IsDateTimeOffset(ReadOnlySpan<byte> from)
    {
        long ticks = BinaryPrimitives.ReadInt64LittleEndian(from);
        int offset = BinaryPrimitives.ReadInt16LittleEndian(from[8..]);
        return offset is >= -14 * 60 and <= 14 * 60
            && ticks >= 0 && ticks <= DateTime.MaxValue.Ticks
            && ticks - (offset * TimeSpan.TicksPerMinute) is long utc && utc >= 0 && utc <= DateTime.MaxValue.Ticks;
    }

    private delegate bool Validity(ReadOnlySpan<byte> source);

    private sealed class Fixed<TKey>(string code, int size, Writer<TKey> write, Reader<TKey> read, DbType? parameterType, Func<TKey, SqlDialect, object>? toParameter = null) : KeyCodec<TKey>
        where TKey : struct, IComparable<TKey>
    {
        public Validity? Check { get; init; }

        public Comparison<TKey>? Comparison { get; init; }

        public string? OnSqlite { get; init; }

        public override string Code => code;

        public override int? FixedSize => size;

        public override DbType? ParameterType => parameterType;

        public override int Size(TKey key) => size;

        public override void Write(Span<byte> destination, TKey key) => write(destination, key);

        public override bool TryMeasure(ReadOnlySpan<byte> source, out int measured)
        {
            measured = size;
            return source.Length >= size && (Check is null || Check(source));
        }

        public override TKey Read(ReadOnlySpan<byte> source) => read(source);

        public override int Compare(TKey left, TKey right) => Comparison is null ? left.CompareTo(right) : Comparison(left, right);

        public override object ToParameter(TKey key, SqlDialect dialect) => toParameter is null ? key : toParameter(key, dialect);

        public override string? Objection(SqlDialect dialect) => dialect == SqlDialect.Sqlite ? OnSqlite : null;
    }

    /// <summary>An enum is its number, in the database too.</summary>
    private sealed class Enumeration<TKey> : KeyCodec<TKey>
    {
        private static TypeCode Underlying { get; } = Type.GetTypeCode(typeof(TKey));

        private static int Width { get; } = Unsafe.SizeOf<TKey>();

        private static bool IsUnsigned { get; } = Underlying is TypeCode.Byte or TypeCode.UInt16 or TypeCode.UInt32 or TypeCode.UInt64;

        public override string Code { get; } = string.Create(CultureInfo.InvariantCulture, $"enum {(IsUnsigned ? 'u' : 'i')}{8 * Width}");

        public override int? FixedSize => Width;

        public override DbType? ParameterType => Width switch
        {
            8 => IsUnsigned ? DbType.Decimal : DbType.Int64,
            4 => IsUnsigned ? DbType.Int64 : DbType.Int32,
            2 when IsUnsigned => DbType.Int32,
            _ => DbType.Int16,
        };

        public override int Size(TKey key) => Width;

        public override void Write(Span<byte> destination, TKey key)
        {
            long number = Number(key);
            for (int i = 0; i < Width; i++)
            {
                destination[i] = (byte)(number >> (8 * i));
            }
        }

        public override bool TryMeasure(ReadOnlySpan<byte> source, out int size)
        {
            size = Width;
            return source.Length >= Width;
        }

        public override TKey Read(ReadOnlySpan<byte> source)
        {
            long number = 0;
            for (int i = 0; i < Width; i++)
            {
                number |= (long)source[i] << (8 * i);
            }

            TKey key = default!;
            switch (Width)
            {
                case 1:
                    Unsafe.As<TKey, byte>(ref key) = (byte)number;
                    break;
                case 2:
                    Unsafe.As<TKey, short>(ref key) = (short)number;
                    break;
                case 4:
                    Unsafe.As<TKey, int>(ref key) = (int)number;
                    break;
                default:
                    Unsafe.As<TKey, long>(ref key) = number;
                    break;
            }

            return key;
        }

        public override int Compare(TKey left, TKey right) =>
            Underlying == TypeCode.UInt64 ? ((ulong)Number(left)).CompareTo((ulong)Number(right)) : Number(left).CompareTo(Number(right));

        public override object ToParameter(TKey key, SqlDialect dialect)
        {
            long number = Number(key);
            return Width switch
            {
                8 => IsUnsigned ? (object)(decimal)(ulong)number : number,
                4 => IsUnsigned ? (object)number : (int)number,
                2 when IsUnsigned => (int)number,
                _ => (short)number,
            };
        }

        public override string? Objection(SqlDialect dialect) =>
            dialect == SqlDialect.Sqlite && Underlying == TypeCode.UInt64 ? "SQLite keeps a ulong as a signed number; order by a long" : null;

        private static long Number(TKey key) => Underlying switch
        {
            TypeCode.SByte => Unsafe.As<TKey, sbyte>(ref key),
            TypeCode.Byte => Unsafe.As<TKey, byte>(ref key),
            TypeCode.Int16 => Unsafe.As<TKey, short>(ref key),
            TypeCode.UInt16 => Unsafe.As<TKey, ushort>(ref key),
            TypeCode.Int32 => Unsafe.As<TKey, int>(ref key),
            TypeCode.UInt32 => Unsafe.As<TKey, uint>(ref key),
            _ => Unsafe.As<TKey, long>(ref key),
        };
    }

    /// <summary>The length in bytes and one bit in a variable-length number; then UTF-8, or UTF-16 where a surrogate has no partner and UTF-8 would lose it.</summary>
    private sealed class Text : KeyCodec<string>
    {
        // What cannot be written throws instead of becoming U+FFFD.
        private static UTF8Encoding Utf8 { get; } = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

        public override string Code => "text";

        public override int? FixedSize => null;

        public override DbType? ParameterType => DbType.String;

        public override int Size(string key)
        {
            int bytes = Bytes(key, out bool isUtf16);
            return LengthOfHead(Head(bytes, isUtf16)) + bytes;
        }

        public override void Write(Span<byte> destination, string key)
        {
            int bytes = Bytes(key, out bool isUtf16);
            uint head = Head(bytes, isUtf16);
            int at = 0;
            for (; head >= 0x80; head >>= 7)
            {
                destination[at++] = (byte)(head | 0x80);
            }

            destination[at++] = (byte)head;
            if (!isUtf16)
            {
                Utf8.GetBytes(key, destination[at..]);
                return;
            }

            foreach (char unit in key)
            {
                BinaryPrimitives.WriteUInt16LittleEndian(destination[at..], unit);
                at += 2;
            }
        }

        public override bool TryMeasure(ReadOnlySpan<byte> source, out int size)
        {
            size = 0;
            if (!TryReadHead(source, out int at, out int bytes, out bool isUtf16) || bytes > source.Length - at || (isUtf16 && bytes % 2 != 0))
            {
                return false;
            }

            size = at + bytes;
            return isUtf16 || System.Text.Unicode.Utf8.IsValid(source.Slice(at, bytes));
        }

        public override string Read(ReadOnlySpan<byte> source)
        {
            TryReadHead(source, out int at, out int bytes, out bool isUtf16);
            ReadOnlySpan<byte> content = source.Slice(at, bytes);
            return isUtf16 ? Units(content) : Utf8.GetString(content);
        }

        public override int Compare(string left, string right) => KeyCodec.Compare(left, right);

        public override object ToParameter(string key, SqlDialect dialect) => key;

        private static string Units(ReadOnlySpan<byte> content)
        {
            char[] units = new char[content.Length / 2];
            for (int i = 0; i < units.Length; i++)
            {
                units[i] = (char)BinaryPrimitives.ReadUInt16LittleEndian(content[(2 * i)..]);
            }

            return new string(units);
        }

        private static int Bytes(string key, out bool isUtf16)
        {
            isUtf16 = !IsWellFormed(key);
            return isUtf16 ? 2 * key.Length : Utf8.GetByteCount(key);
        }

        private static bool IsWellFormed(string key)
        {
            for (int i = key.AsSpan().IndexOfAnyInRange('\uD800', '\uDFFF'); i >= 0 && i < key.Length; i++)
            {
                if (char.IsHighSurrogate(key[i]) && i + 1 < key.Length && char.IsLowSurrogate(key[i + 1]))
                {
                    i++;
                }
                else if (char.IsSurrogate(key[i]))
                {
                    return false;
                }
            }

            return true;
        }

        private static uint Head(int bytes, bool isUtf16) => ((uint)bytes << 1) | (isUtf16 ? 1u : 0u);

        private static int LengthOfHead(uint head) => head < 0x80 ? 1 : head < 0x4000 ? 2 : head < 0x20_0000 ? 3 : head < 0x1000_0000 ? 4 : 5;

        private static bool TryReadHead(ReadOnlySpan<byte> source, out int at, out int bytes, out bool isUtf16)
        {
            uint head = 0;
            for (at = 0; at < source.Length && at < 4; at++)
            {
                head |= (uint)(source[at] & 0x7F) << (7 * at);
                if (source[at] < 0x80)
                {
                    at++;
                    bytes = (int)(head >> 1);
                    isUtf16 = (head & 1) != 0;
                    return true;
                }
            }

            bytes = 0;
            isUtf16 = false;
            return false;
        }
    }
}

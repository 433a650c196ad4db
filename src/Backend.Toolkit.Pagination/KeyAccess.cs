using System.Data;
using System.Linq.Expressions;

namespace Backend.Toolkit.Pagination;

/// <summary>The key of one column: taken from a row, written into a cursor, read back, compared. Without boxing, except where a parameter needs an object.</summary>
internal abstract class KeyAccess<T>
{
    public abstract string Code { get; }

    /// <summary>The most bytes of a key; null: that varies.</summary>
    public abstract int? LargestSize { get; }

    public abstract DbType? ParameterType { get; }

    public abstract object? Get(T row);

    public abstract bool IsMissing(T row);

    public abstract int Size(T row);

    /// <returns>The bytes written.</returns>
    public abstract int Write(Span<byte> destination, T row);

    public abstract int SizeOf(object? key);

    public abstract int WriteOf(Span<byte> destination, object? key);

    public abstract bool TryMeasure(ReadOnlySpan<byte> source, out int size, out bool isNull);

    public abstract object? Read(ReadOnlySpan<byte> source);

    public abstract object? ReadParameter(ReadOnlySpan<byte> source, SqlDialect dialect);

    public abstract string? Objection(SqlDialect dialect);

    /// <summary>Values only: null is below all of them, whatever the null order.</summary>
    public abstract int Compare(T left, T right);

    /// <summary>Compares rows with a key that was read once.</summary>
    public abstract KeyBound<T> Bound(ReadOnlySpan<byte> source);
}

/// <summary>A key that rows are compared with.</summary>
internal abstract class KeyBound<T>
{
    public abstract bool IsNull { get; }

    public abstract int CompareTo(T row);
}

/// <summary>A key that is always there.</summary>
internal sealed class KeyAccess<T, TKey>(Expression<Func<T, TKey>> key, KeyCodec<TKey> codec, string name) : KeyAccess<T>
{
    // Compiled when it is first needed: an adapter that only translates the expression never does.
    private Func<T, TKey>? _get;

    public override string Code => codec.Code;

    public override int? LargestSize => codec.FixedSize;

    public override DbType? ParameterType => codec.ParameterType;

    public TKey Key(T row)
    {
        TKey value = (_get ??= key.Compile())(row);
        return value is not null ? value : throw Missing();
    }

    public TKey ReadKey(ReadOnlySpan<byte> source) => codec.Read(source);

    public override object? Get(T row) => Key(row);

    public override bool IsMissing(T row) => false;

    public override int Size(T row) => codec.Size(Key(row));

    public override int Write(Span<byte> destination, T row)
    {
        TKey value = Key(row);
        int size = codec.Size(value);
        codec.Write(destination, value);
        return size;
    }

    public override int SizeOf(object? key) => codec.Size((TKey)(key ?? throw Missing()));

    public override int WriteOf(Span<byte> destination, object? key)
    {
        TKey value = (TKey)(key ?? throw Missing());
        codec.Write(destination, value);
        return codec.Size(value);
    }

    public override bool TryMeasure(ReadOnlySpan<byte> source, out int size, out bool isNull)
    {
        isNull = false;
        return codec.TryMeasure(source, out size);
    }

    public override object? Read(ReadOnlySpan<byte> source) => codec.Read(source);

    public override object? ReadParameter(ReadOnlySpan<byte> source, SqlDialect dialect) => codec.ToParameter(codec.Read(source), dialect);

    public override string? Objection(SqlDialect dialect) => codec.Objection(dialect);

    public override int Compare(T left, T right) => codec.Compare(Key(left), Key(right));

    public override KeyBound<T> Bound(ReadOnlySpan<byte> source) => new Held(this, codec, codec.Read(source));

    private InvalidOperationException Missing() =>
        new($"A row has no value in column {name}, and the keyset says that all have. Say nulls: NullOrder.First or NullOrder.Last for that column.");

    private sealed class Held(KeyAccess<T, TKey> access, KeyCodec<TKey> codec, TKey key) : KeyBound<T>
    {
        public override bool IsNull => false;

        public override int CompareTo(T row) => codec.Compare(key, access.Key(row));
    }
}

/// <summary>A key that may be missing: one byte that says whether it is there, then the key.</summary>
/// <typeparam name="T">A row.</typeparam>
/// <typeparam name="TMaybe">The type of the column: a nullable value, or a reference.</typeparam>
/// <typeparam name="TKey">The type of the keys that are there.</typeparam>
internal sealed class NullableKeyAccess<T, TMaybe, TKey>(Expression<Func<T, TMaybe>> key, KeyCodec<TKey> codec, NullableKeyAccess<T, TMaybe, TKey>.Unwrap unwrap) : KeyAccess<T>
{
    private Func<T, TMaybe>? _get;

    /// <returns>False: there is no key.</returns>
    public delegate bool Unwrap(TMaybe maybe, out TKey key);

    public override string Code { get; } = codec.Code + "?";

    public override int? LargestSize => codec.FixedSize + 1;

    public override DbType? ParameterType => codec.ParameterType;

    public override object? Get(T row) => TryKey(row, out TKey? value) ? value : null;

    public override bool IsMissing(T row) => !TryKey(row, out _);

    public override int Size(T row) => TryKey(row, out TKey? value) ? 1 + codec.Size(value) : 1;

    public override int Write(Span<byte> destination, T row)
    {
        bool isThere = TryKey(row, out TKey? value);
        return Write(destination, isThere, value);
    }

    public override int SizeOf(object? key) => key is null ? 1 : 1 + codec.Size((TKey)key);

    public override int WriteOf(Span<byte> destination, object? key) => Write(destination, key is not null, key is null ? default! : (TKey)key);

    public override bool TryMeasure(ReadOnlySpan<byte> source, out int size, out bool isNull)
    {
        size = 1;
        isNull = source.Length > 0 && source[0] == 0;
        if (isNull)
        {
            return true;
        }

        if (source.Length < 1 || source[0] != 1 || !codec.TryMeasure(source[1..], out int ofKey))
        {
            return false;
        }

        size += ofKey;
        return true;
    }

    public override object? Read(ReadOnlySpan<byte> source) => source[0] == 0 ? null : codec.Read(source[1..]);

    public override object? ReadParameter(ReadOnlySpan<byte> source, SqlDialect dialect) => source[0] == 0 ? null : codec.ToParameter(codec.Read(source[1..]), dialect);

    public override string? Objection(SqlDialect dialect) => codec.Objection(dialect);

    public override int Compare(T left, T right)
    {
        bool isLeftThere = TryKey(left, out TKey? ofLeft);
        bool isRightThere = TryKey(right, out TKey? ofRight);
        return isLeftThere && isRightThere ? codec.Compare(ofLeft!, ofRight!) : isLeftThere.CompareTo(isRightThere);
    }

    public override KeyBound<T> Bound(ReadOnlySpan<byte> source) =>
        source[0] == 0 ? new Held(this, codec, default!, isNull: true) : new Held(this, codec, codec.Read(source[1..]), isNull: false);

    private bool TryKey(T row, out TKey value) => unwrap((_get ??= key.Compile())(row), out value);

    private int Write(Span<byte> destination, bool isThere, TKey value)
    {
        destination[0] = isThere ? (byte)1 : (byte)0;
        if (!isThere)
        {
            return 1;
        }

        codec.Write(destination[1..], value);
        return 1 + codec.Size(value);
    }

    private sealed class Held(NullableKeyAccess<T, TMaybe, TKey> access, KeyCodec<TKey> codec, TKey key, bool isNull) : KeyBound<T>
    {
        public override bool IsNull => isNull;

        public override int CompareTo(T row)
        {
            bool isThere = access.TryKey(row, out TKey? value);
            return !isNull && isThere ? codec.Compare(key, value!) : (!isNull).CompareTo(isThere);
        }
    }
}

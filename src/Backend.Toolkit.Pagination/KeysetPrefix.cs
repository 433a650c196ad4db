using System.Linq.Expressions;

namespace Backend.Toolkit.Pagination;

/// <summary>
/// The columns of a keyset that is not complete: only <c>Unique</c> yields a <see cref="Keyset{T}"/>, so one without a unique last column cannot be written. Immutable. Keys may be of the types
/// <c>bool</c>, all integers to 64 bits, <c>float</c>, <c>double</c>, <c>decimal</c>, <c>char</c>, <c>string</c>, <c>Guid</c>, <c>DateTime</c>, <c>DateTimeOffset</c>, <c>DateOnly</c>,
/// <c>TimeOnly</c>, <c>TimeSpan</c>, and enums, which are ordered by their numbers.
/// </summary>
/// <typeparam name="T">A row.</typeparam>
public sealed class KeysetPrefix<T>
{
    private const int MostColumns = 16;

    private readonly KeysetColumn<T>[] _columns;

    internal KeysetPrefix(KeysetColumn<T>[] columns) => _columns = columns;

    /// <summary>Then by this key, small values first.</summary>
    /// <typeparam name="TKey">The type of the key.</typeparam>
    /// <param name="key">The key, such as <c>o =&gt; o.CreatedAt</c>.</param>
    /// <param name="column">The column in SQL. Default: the name of the member.</param>
    /// <param name="nulls">Where rows without a value stand; null: all have one. Databases disagree about a default, so there is none.</param>
    /// <param name="type">The type in SQL, such as <c>timestamptz(3)</c>, when parameters must be cast to it (on PostgreSQL for text keys over other columns than <c>text</c> and <c>varchar</c>). Default: they are not.</param>
    /// <returns>The longer keyset.</returns>
    public KeysetPrefix<T> Ascending<TKey>(Expression<Func<T, TKey>> key, string? column = null, NullOrder? nulls = null, string? type = null) =>
        With(Column(key, column, SortDirection.Ascending, nulls, type, isUnique: false));

    /// <summary>Then by this key, small values first; rows may be without a value.</summary>
    /// <typeparam name="TKey">The type of the key where there is one.</typeparam>
    /// <param name="key">The key, such as <c>o =&gt; o.ShippedAt</c>.</param>
    /// <param name="nulls">Where rows without a value stand.</param>
    /// <param name="column">The column in SQL. Default: the name of the member.</param>
    /// <param name="type">The type in SQL, such as <c>timestamptz(3)</c>, when parameters must be cast to it (on PostgreSQL for text keys over other columns than <c>text</c> and <c>varchar</c>). Default: they are not.</param>
    /// <returns>The longer keyset.</returns>
    public KeysetPrefix<T> Ascending<TKey>(Expression<Func<T, TKey?>> key, NullOrder nulls, string? column = null, string? type = null)
        where TKey : struct => With(NullableColumn(key, column, SortDirection.Ascending, nulls, type));

    /// <summary>Then by this key, large values first.</summary>
    /// <typeparam name="TKey">The type of the key.</typeparam>
    /// <param name="key">The key, such as <c>o =&gt; o.CreatedAt</c>.</param>
    /// <param name="column">The column in SQL. Default: the name of the member.</param>
    /// <param name="nulls">Where rows without a value stand; null: all have one. Databases disagree about a default, so there is none.</param>
    /// <param name="type">The type in SQL, such as <c>timestamptz(3)</c>, when parameters must be cast to it (on PostgreSQL for text keys over other columns than <c>text</c> and <c>varchar</c>). Default: they are not.</param>
    /// <returns>The longer keyset.</returns>
    public KeysetPrefix<T> Descending<TKey>(Expression<Func<T, TKey>> key, string? column = null, NullOrder? nulls = null, string? type = null) =>
        With(Column(key, column, SortDirection.Descending, nulls, type, isUnique: false));

    /// <summary>Then by this key, large values first; rows may be without a value.</summary>
    /// <typeparam name="TKey">The type of the key where there is one.</typeparam>
    /// <param name="key">The key, such as <c>o =&gt; o.ShippedAt</c>.</param>
    /// <param name="nulls">Where rows without a value stand.</param>
    /// <param name="column">The column in SQL. Default: the name of the member.</param>
    /// <param name="type">The type in SQL, such as <c>timestamptz(3)</c>, when parameters must be cast to it (on PostgreSQL for text keys over other columns than <c>text</c> and <c>varchar</c>). Default: they are not.</param>
    /// <returns>The longer keyset.</returns>
    public KeysetPrefix<T> Descending<TKey>(Expression<Func<T, TKey?>> key, NullOrder nulls, string? column = null, string? type = null)
        where TKey : struct => With(NullableColumn(key, column, SortDirection.Descending, nulls, type));

    /// <summary>Last by this key, in which no two rows are equal, and which all have.</summary>
    /// <typeparam name="TKey">The type of the key.</typeparam>
    /// <param name="key">The key, such as <c>o =&gt; o.Id</c>.</param>
    /// <param name="column">The column in SQL. Default: the name of the member.</param>
    /// <param name="direction">Which way. Default: that of the column before, so that a plain index serves; ascending when there is none.</param>
    /// <param name="type">The type in SQL, when parameters must be cast to it (on PostgreSQL for text keys over other columns than <c>text</c> and <c>varchar</c>). Default: they are not.</param>
    /// <returns>The keyset.</returns>
    public Keyset<T> Unique<TKey>(Expression<Func<T, TKey>> key, string? column = null, SortDirection? direction = null, string? type = null)
        where TKey : notnull
    {
        SortDirection last = direction ?? (_columns.Length > 0 ? _columns[^1].Direction : SortDirection.Ascending);
        return new Keyset<T>(With(Column(key, column, last, nulls: null, type, isUnique: true))._columns);
    }

    private KeysetPrefix<T> With(KeysetColumn<T> column) => _columns.Length == MostColumns
        ? throw new InvalidOperationException($"A keyset has at most {MostColumns} columns.")
        : _columns.Any(other => other.Name == column.Name)
            ? throw new ArgumentException($"Column {column.Name} is in the keyset twice.", nameof(column))
            : new KeysetPrefix<T>([.. _columns, column]);

    private KeysetColumn<T> Column<TKey>(Expression<Func<T, TKey>> key, string? column, SortDirection direction, NullOrder? nulls, string? type, bool isUnique)
    {
        ArgumentNullException.ThrowIfNull(key);
        if (Nullable.GetUnderlyingType(typeof(TKey)) is not null)
        {
            throw new ArgumentException(isUnique
                ? $"{key.Body} may be null, so it is not a unique key."
                : $"{key.Body} may be null. Say nulls: NullOrder.First or NullOrder.Last; databases disagree about a default.", nameof(key));
        }

        string name = NameOf(key, column);
        KeyCodec<TKey> codec = Codec<TKey>(key);
        KeyAccess<T> access = nulls is null ? new KeyAccess<T, TKey>(key, codec, name) : new NullableKeyAccess<T, TKey, TKey>(key, codec, static (TKey maybe, out TKey there) =>
        {
            there = maybe;
            return maybe is not null;
        });
        return new KeysetColumn<T>(_columns.Length, name, type, key, Defined(direction), nulls, isUnique, access);
    }

    private KeysetColumn<T> NullableColumn<TKey>(Expression<Func<T, TKey?>> key, string? column, SortDirection direction, NullOrder nulls, string? type)
        where TKey : struct
    {
        ArgumentNullException.ThrowIfNull(key);
        var access = new NullableKeyAccess<T, TKey?, TKey>(key, Codec<TKey>(key), static (TKey? maybe, out TKey there) =>
        {
            there = maybe.GetValueOrDefault();
            return maybe.HasValue;
        });
        return new KeysetColumn<T>(_columns.Length, NameOf(key, column), type, key, Defined(direction), nulls, isUnique: false, access);
    }

    private static SortDirection Defined(SortDirection direction) =>
        Enum.IsDefined(direction) ? direction : throw new ArgumentOutOfRangeException(nameof(direction), direction, "The direction must be Ascending or Descending.");

    private static KeyCodec<TKey> Codec<TKey>(LambdaExpression key) => KeyCodec.For<TKey>()
        ?? throw new ArgumentException($"{key.Body} is a {typeof(TKey)}, and keys of that type have no order that all databases share. Take a number, text, Guid, date, time, bool or enum.", nameof(key));

    private static string NameOf(LambdaExpression key, string? column)
    {
        Expression body = key.Body;
        while (body is UnaryExpression { NodeType: ExpressionType.Convert } conversion)
        {
            body = conversion.Operand;
        }

        string? name = column ?? (body as MemberExpression)?.Member.Name;
        return !string.IsNullOrWhiteSpace(name) ? name : throw new ArgumentException($"{key.Body} is no member with a name: say column: \"…\".", nameof(column));
    }
}

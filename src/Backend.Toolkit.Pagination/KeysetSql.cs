namespace Backend.Toolkit.Pagination;

/// <summary>Renders the SQL of a page, for ADO.NET and Dapper.</summary>
public static class KeysetSql
{
    /// <summary>Wraps a SELECT so that it reads one page, by a seek.</summary>
    /// <typeparam name="T">A row.</typeparam>
    /// <param name="dialect">The database.</param>
    /// <param name="keyset">The order of the rows; the SELECT has all of its columns under their names.</param>
    /// <param name="sql">A SELECT without ORDER BY and LIMIT. Its own parameters, if any, are named (other than <c>keyset0</c>, <c>keyset1</c> …), and their values stay the caller's. It is inlined as a derived table, once for each branch; PostgreSQL and SQLite flatten it when it is a plain one.</param>
    /// <param name="request">What <see cref="CursorPaginator.Open{T}"/> gave for the same keyset.</param>
    /// <returns>The text and its parameters, and what then makes the page.</returns>
    /// <exception cref="NotSupportedException">The database would order a key of this type wrongly; says what to do.</exception>
    public static KeysetQuery<T> Render<T>(SqlDialect dialect, Keyset<T> keyset, string sql, in KeysetRequest<T> request)
    {
        ArgumentNullException.ThrowIfNull(keyset);
        ArgumentException.ThrowIfNullOrWhiteSpace(sql);
        if (!Enum.IsDefined(dialect))
        {
            throw new ArgumentOutOfRangeException(nameof(dialect), dialect, "The dialect must be PostgreSql or Sqlite.");
        }

        return ReferenceEquals(keyset, request.Keyset)
            ? new KeysetQuery<T>(dialect, sql, request)
            : throw new ArgumentException("The request was opened for another keyset.", nameof(request));
    }
}

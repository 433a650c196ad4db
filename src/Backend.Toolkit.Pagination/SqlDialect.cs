namespace Backend.Toolkit.Pagination;

/// <summary>A database whose SQL is rendered.</summary>
public enum SqlDialect
{
    /// <summary>PostgreSQL 12 or later.</summary>
    PostgreSql,

    /// <summary>SQLite 3.30 or later.</summary>
    Sqlite,
}

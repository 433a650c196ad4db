using System.Data;

namespace Backend.Toolkit.Pagination;

/// <summary>A parameter of a <see cref="KeysetQuery{T}"/>: a key of the position, of the column's exact type.</summary>
/// <param name="Name">The name, without the sign before it in SQL.</param>
/// <param name="Value">The value; never null.</param>
/// <param name="DbType">The type; null: the provider finds it by the value (dates and times).</param>
public readonly record struct KeysetParameter(string Name, object Value, DbType? DbType);

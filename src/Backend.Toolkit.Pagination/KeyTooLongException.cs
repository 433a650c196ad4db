using System.Globalization;

namespace Backend.Toolkit.Pagination;

/// <summary>A row cannot be pointed at: with its keys the cursor would be longer than <see cref="CursorPaginatorOptions.MaxCursorLength"/>.</summary>
public sealed class KeyTooLongException : Exception
{
    /// <summary>A refusal that names the longest key.</summary>
    /// <param name="column">The column with the longest key.</param>
    /// <param name="maxCursorLength">The longest cursor allowed, in characters.</param>
    public KeyTooLongException(string column, int maxCursorLength)
        : base(string.Create(CultureInfo.InvariantCulture, $"The key in column {column} is too long for a cursor of at most {maxCursorLength} characters. Order by a shorter column, or raise MaxCursorLength."))
    {
        Column = column;
    }

    /// <summary>The column with the longest key.</summary>
    public string Column { get; }
}

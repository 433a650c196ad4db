namespace Backend.Toolkit.Pagination;

/// <summary>What was in a cursor: a gap between rows, just before or just after where a row with these keys is or would be, and the way on from there.</summary>
internal readonly struct CursorPosition(PageDirection direction, bool before, int nullMask, KeyBytes keys)
{
    /// <summary>A field: its bytes are read in place.</summary>
    public readonly KeyBytes Keys = keys;

    public PageDirection Direction { get; } = direction;

    public bool IsBefore { get; } = before;

    /// <summary>A bit for each column without a value.</summary>
    public int NullMask { get; } = nullMask;
}

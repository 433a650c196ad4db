using System.Globalization;

namespace Backend.Toolkit.Pagination;

/// <summary>A page size that came from outside is refused: it is negative, or above the maximum where such are not coerced.</summary>
public sealed class InvalidPageSizeException : Exception
{
    /// <summary>A refusal of that size.</summary>
    /// <param name="size">What was asked for.</param>
    /// <param name="maxSize">The most that is given.</param>
    public InvalidPageSizeException(int size, int maxSize)
        : base(string.Create(CultureInfo.InvariantCulture, $"The page size must be between 0 (the default size) and {maxSize}, but is {size}."))
    {
        Size = size;
        MaxSize = maxSize;
    }

    /// <summary>What was asked for.</summary>
    public int Size { get; }

    /// <summary>The most that is given.</summary>
    public int MaxSize { get; }
}

using System.Globalization;
using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.Pagination.AspNetCore;

/// <summary>What is wrong with a request for a page, as its caller may know it.</summary>
internal sealed record PageProblem(string Type, string Title, string Detail, string Reason, int? MaxSize = null)
{
    public const string CursorType = "urn:problem-type:backend-toolkit:invalid-cursor";
    public const string SizeType = "urn:problem-type:backend-toolkit:invalid-page-size";

    /// <summary>The names of reasons that are of this package alone; the others are those of <see cref="InvalidCursorReason"/>.</summary>
    public const string Malformed = "malformed", Repeated = "repeated", Negative = "negative", TooLarge = "tooLarge";

    public static string[] CursorReasons { get; } = [.. Enum.GetValues<InvalidCursorReason>().Select(ReasonOf), Repeated];

    public static string[] SizeReasons { get; } = [Malformed, Repeated, Negative, TooLarge];

    public static PageProblem RepeatedCursor(string parameter) => new(CursorType, "Invalid cursor", $"The parameter '{parameter}' is given more than once.", Repeated);

    public static PageProblem RepeatedSize(string parameter) => new(SizeType, "Invalid page size", $"The parameter '{parameter}' is given more than once.", Repeated);

    public static PageProblem MalformedSize(string parameter) => new(SizeType, "Invalid page size", $"The parameter '{parameter}' must be a whole number in digits from 0 to 9.", Malformed);

    /// <returns>Null: the exception is not about a request for a page.</returns>
    public static PageProblem? Of(Exception exception) => exception switch
    {
        InvalidCursorException invalid => new(CursorType, "Invalid cursor", invalid.Message, ReasonOf(invalid.Reason)),
        InvalidPageSizeException invalid => new(SizeType, "Invalid page size", invalid.Message, invalid.Size < 0 ? Negative : TooLarge, invalid.MaxSize),
        InvalidPageQueryException invalid => invalid.Problem,
        _ => null,
    };

    private static string ReasonOf(InvalidCursorReason reason)
    {
        string name = reason.ToString();
        return string.Create(CultureInfo.InvariantCulture, $"{char.ToLowerInvariant(name[0])}{name.AsSpan(1)}");
    }
}

/// <summary>A handler used a query that nobody refused: the endpoint's filter did not run. Servers answer it 400, too.</summary>
internal sealed class InvalidPageQueryException(PageProblem problem) : BadHttpRequestException(problem.Detail, StatusCodes.Status400BadRequest)
{
    public PageProblem Problem => problem;
}

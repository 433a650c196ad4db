namespace Backend.Toolkit.RetryPolicies;

/// <summary>
/// A delegate for results of exactly the type it was given for. The delegate's own type does not tell: variance lets a
/// <c>Func&lt;object, bool&gt;</c> be given for strings.
/// </summary>
internal sealed class ResultRule<TResult, TAnswer>(Func<TResult, TAnswer> ask)
{
    public TAnswer Ask(TResult result) => ask(result);
}

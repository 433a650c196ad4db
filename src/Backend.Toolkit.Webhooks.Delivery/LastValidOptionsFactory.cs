using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>
/// Validates options whenever they are made. The first invalid ones throw (the host does not start); after valid ones, an invalid
/// reload logs one error and yields the last valid ones again, so neither the reload nor a later resolve throws.
/// </summary>
internal sealed class LastValidOptionsFactory<[DynamicallyAccessedMembers(DynamicallyAccessedMemberTypes.PublicParameterlessConstructor)] TOptions>(
    IEnumerable<IConfigureOptions<TOptions>> setups,
    IEnumerable<IPostConfigureOptions<TOptions>> postConfigures,
    IEnumerable<IValidateOptions<TOptions>> validations,
    ILogger<WebhookDeliveryWorker>? logger = null) : IOptionsFactory<TOptions>
    where TOptions : class, IValidOptions
{
    private readonly OptionsFactory<TOptions> _factory = new(setups, postConfigures, validations.Append(new ProblemsValidation()));
    private readonly ConcurrentDictionary<string, TOptions> _lastValid = new();
    private readonly ConcurrentDictionary<string, string> _told = new();

    public TOptions Create(string name)
    {
        try
        {
            TOptions options = _factory.Create(name);
            _told.TryRemove(name, out _);
            return _lastValid[name] = options;
        }
        catch (Exception exception) when (_lastValid.TryGetValue(name, out TOptions? last))
        {
            // One reload may make the options several times: once for each bound section and each scope that asks.
            if (logger is not null && (!_told.TryGetValue(name, out string? told) || told != exception.Message))
            {
                _told[name] = exception.Message;
                Log.InvalidReload(logger, last.Name, exception.Message);
            }

            return last;
        }
    }

    /// <summary>Beside the application's own validations, so that all problems are told together.</summary>
    private sealed class ProblemsValidation : IValidateOptions<TOptions>
    {
        public ValidateOptionsResult Validate(string? name, TOptions options)
        {
            List<string> problems = [.. options.Problems()];
            return problems.Count > 0 ? ValidateOptionsResult.Fail(problems) : ValidateOptionsResult.Success;
        }
    }
}

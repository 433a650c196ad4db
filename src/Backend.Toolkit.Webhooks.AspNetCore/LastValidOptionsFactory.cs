using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>
/// Validates options whenever they are made. The first invalid ones throw (the host does not start); after valid ones, an invalid
/// reload logs one error and yields the last valid ones again, so neither the reload nor a later resolve throws.
/// </summary>
internal sealed class LastValidOptionsFactory(
    IEnumerable<IConfigureOptions<WebhookReceivingOptions>> setups,
    IEnumerable<IPostConfigureOptions<WebhookReceivingOptions>> postConfigures,
    IEnumerable<IValidateOptions<WebhookReceivingOptions>> validations,
    ILogger<WebhookMiddleware>? logger = null) : IOptionsFactory<WebhookReceivingOptions>
{
    private readonly OptionsFactory<WebhookReceivingOptions> _factory = new(setups, postConfigures, validations.Append(new ProblemsValidation()));
    private readonly ConcurrentDictionary<string, WebhookReceivingOptions> _lastValid = new();
    private readonly ConcurrentDictionary<string, string> _told = new();

    public WebhookReceivingOptions Create(string name)
    {
        try
        {
            WebhookReceivingOptions options = _factory.Create(name);
            _told.TryRemove(name, out _);
            return _lastValid[name] = options;
        }
        catch (Exception exception) when (_lastValid.TryGetValue(name, out WebhookReceivingOptions? last))
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
    private sealed class ProblemsValidation : IValidateOptions<WebhookReceivingOptions>
    {
        public ValidateOptionsResult Validate(string? name, WebhookReceivingOptions options)
        {
            List<string> problems = [.. options.Problems()];
            return problems.Count > 0 ? ValidateOptionsResult.Fail(problems) : ValidateOptionsResult.Success;
        }
    }
}
